"""The job of a linear layer: matrix product, scale, bias, GELU or residual addition.

A piece of the job is 64 outputs of all rows.
"""

from __future__ import annotations

from numba import carray, float32, njit

from nbp_core.packed.kernels.instructions import pointer
from nbp_core.packed.kernels.jobs import (
    ACTIVATE,
    ADD,
    BIAS,
    COMPILED,
    INPUT_SCALE,
    KIND,
    LINE,
    NUM_OUTPUTS,
    NUM_ROWS,
    OUTPUT,
    PIECE,
    PRODUCT,
    ROWS,
    SCALE,
    THEN,
)
from nbp_core.packed.kernels.numbers import IN_USE, NUMBER_BYTES, gelu
from nbp_core.packed.kernels.simd.lanes import (
    LANES,
    add_lanes,
    copy_lanes,
    round_lanes,
    scale_lanes,
)

if IN_USE.has_tiles:
    from nbp_core.packed.kernels.amx.products import arranged, sum_up, sums_bytes
else:
    from nbp_core.packed.kernels.simd.products import arranged, sum_up, sums_bytes

__all__ = ["arranged", "multiply", "sums_bytes"]


@njit(**COMPILED)
def multiply(job, scratch, piece):
    """Computes one piece."""
    for first in range(0, job[NUM_ROWS], ROWS):
        rows = min(ROWS, job[NUM_ROWS] - first)
        sum_up(job, scratch, first, rows, piece)
        _shift(job, scratch, first, rows, piece)
        if job[THEN] == ACTIVATE:
            _activate(scratch, rows * PIECE)
        _write(job, scratch, first, rows, piece)


@njit(**COMPILED)
def _shift(job, scratch, first, rows, piece):
    """Scales int32 sums to float32 and adds the biases."""
    bias, scales = job[BIAS] + 4 * PIECE * piece, job[SCALE] + 4 * PIECE * piece
    for row in range(rows):
        sums = scratch + 4 * PIECE * row
        if job[KIND] != PRODUCT:
            of_row = carray(pointer(job[INPUT_SCALE] + 4 * (first + row)), 1, float32)[0]
            for place in range(0, 4 * PIECE, LINE):
                scale_lanes(sums + place, scales + place, of_row)
        for place in range(0, 4 * PIECE, LINE):
            add_lanes(bias + place, sums + place)


@njit(**COMPILED)
def _activate(scratch, count):
    # One long loop, because LLVM does not vectorise an inner loop of 64.
    sums = carray(pointer(scratch), count, float32)
    for i in range(count):
        sums[i] = gelu(sums[i])


@njit(**COMPILED)
def _write(job, scratch, first, rows, piece):
    """Writes the sums to the outputs, or adds them to float32 outputs."""
    for row in range(rows):
        sums, place = scratch + 4 * PIECE * row, (first + row) * job[NUM_OUTPUTS] + piece * PIECE
        for lane in range(0, PIECE, LANES):
            if job[THEN] == ADD:
                add_lanes(sums + 4 * lane, job[OUTPUT] + 4 * (place + lane))
            elif NUMBER_BYTES == 2:
                round_lanes(sums + 4 * lane, job[OUTPUT] + 2 * (place + lane))
            else:
                copy_lanes(sums + 4 * lane, job[OUTPUT] + 4 * (place + lane))
