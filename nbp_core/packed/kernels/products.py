"""The job of a linear layer: matrix product, scale, bias, GELU or residual addition.

A piece of the job is 64 outputs of all rows.
"""

from __future__ import annotations

from numba import carray, float32, njit

from nbp_core.packed.kernels.instructions import pointer
from nbp_core.packed.kernels.jobs import (
    ACTIVATE,
    ADD,
    COMPILED,
    LINE,
    PIECE,
    PRODUCT,
    PRODUCT_JOB,
    ROWS,
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
def multiply(place, scratch, piece):
    """Computes one piece of the job whose record is at `place`."""
    job = carray(pointer(place), 1, PRODUCT_JOB)[0]
    for first in range(0, job.num_rows, ROWS):
        rows = min(ROWS, job.num_rows - first)
        sum_up(job, scratch, first, rows, piece)
        _shift(job, scratch, first, rows, piece)
        if job.then == ACTIVATE:
            _activate(scratch, rows * PIECE)
        _write(job, scratch, first, rows, piece)


@njit(**COMPILED)
def _shift(job, scratch, first, rows, piece):
    """Scales int32 sums to float32 and adds the biases."""
    bias, scales = job.bias + 4 * PIECE * piece, job.scale + 4 * PIECE * piece
    for row in range(rows):
        sums = scratch + 4 * PIECE * row
        if job.kind != PRODUCT:
            of_row = carray(pointer(job.input_scale + 4 * (first + row)), 1, float32)[0]
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
        sums, place = scratch + 4 * PIECE * row, (first + row) * job.num_outputs + piece * PIECE
        for lane in range(0, PIECE, LANES):
            if job.then == ADD:
                add_lanes(sums + 4 * lane, job.output + 4 * (place + lane))
            elif NUMBER_BYTES == 2:
                round_lanes(sums + 4 * lane, job.output + 2 * (place + lane))
            else:
                copy_lanes(sums + 4 * lane, job.output + 4 * (place + lane))
