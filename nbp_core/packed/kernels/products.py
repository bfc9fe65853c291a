"""The job of a linear layer: matrix product, scale, bias, GELU or residual addition.

A piece of the job is 64 outputs of all rows.
"""

from __future__ import annotations

import torch
from numba import carray, float32, njit
from torch import Tensor

from nbp_core.packed.kernels.instructions import pointer
from nbp_core.packed.kernels.jobs import (
    ADD,
    COMPILED,
    LINE,
    PIECE,
    PRODUCT,
    PRODUCT_JOB,
    ROUND,
    ROW,
    ROWS,
)
from nbp_core.packed.kernels.numbers import IN_USE, LEVEL_BYTES, NUMBER_BYTES, gelu
from nbp_core.packed.kernels.simd.lanes import LANES, copy_lanes, finishing, round_lanes

if IN_USE.has_tiles:
    from nbp_core.packed.kernels.amx.products import COLUMN, sum_up, sums_bytes
else:
    from nbp_core.packed.kernels.simd.products import COLUMN, sum_up, sums_bytes

_add_floats, _add_whole = finishing(False, "added"), finishing(True, "added")
_write_floats, _write_whole = finishing(False, "numbers"), finishing(True, "numbers")
_keep_floats, _keep_whole = finishing(False, "sums"), finishing(True, "sums")
__all__ = ["arranged", "multiply", "sums_bytes"]


def arranged(weight_OI: Tensor) -> Tensor:
    """Reorders a matrix of weights into columns of COLUMN outputs.

    Within a column, the weights of one lane (32 bits of activations) lie side by side for all
    outputs. 64 bytes of inputs of a column are a matrix tile (AMX). uint8 weights are indices into
    `jobs.LEVELS`; two of them share a byte, from two neighbouring cache lines. The result may be a
    view that is not contiguous.
    """
    num_outputs, num_inputs = weight_OI.shape
    inputs = 4 // (NUMBER_BYTES if weight_OI.dtype.is_floating_point else LEVEL_BYTES)
    columns = weight_OI.view(num_outputs // COLUMN, COLUMN, num_inputs // inputs, inputs)
    ordered = columns.transpose(1, 2)
    if weight_OI.dtype != torch.uint8:
        return ordered
    lower, upper = ordered.reshape(-1, 2, LINE).unbind(1)
    packed = upper << 4
    packed |= lower
    return packed


@njit(**COMPILED)
def _in_sequence(index, num_pieces, num_threads):
    """The piece that comes `index`-th.

    Threads take turns, so each one takes pieces that follow each other in memory: the hardware
    prefetches the next one.
    """
    thread, turn = index % num_threads, index // num_threads
    share, rest = num_pieces // num_threads, num_pieces % num_threads
    return thread * share + min(thread, rest) + turn


@njit(**COMPILED)
def multiply(place, scratch, index):
    """Computes one piece of the job whose record is at `place`."""
    job = carray(pointer(place), 1, PRODUCT_JOB)[0]
    piece = _in_sequence(index, job.num_pieces, job.num_threads)
    for first in range(0, job.num_rows, ROWS):
        rows = min(ROWS, job.num_rows - first)
        sum_up(job, scratch, first, rows, piece)
        _finish(job, scratch, first, rows, piece)


@njit(**COMPILED)
def _finish(job, sums, first, rows, piece):
    """Scales sums, adds the biases, applies GELU, and writes the sums to the outputs or adds them
    to float32 outputs."""
    bias, scales, row_scales = job.bias + ROW * piece, job.scale + ROW * piece, job.input_scale
    row_scales += 4 * first
    item = 4 if job.then == ADD else NUMBER_BYTES
    out_row = item * job.num_outputs
    out, is_whole = job.output + out_row * first + item * PIECE * piece, job.kind != PRODUCT
    if job.then == ADD:
        if is_whole:
            _add_whole(sums, rows, bias, scales, row_scales, out, out_row)
        else:
            _add_floats(sums, rows, bias, scales, row_scales, out, out_row)
    elif job.then == ROUND:
        if is_whole:
            _write_whole(sums, rows, bias, scales, row_scales, out, out_row)
        else:
            _write_floats(sums, rows, bias, scales, row_scales, out, out_row)
    else:
        if is_whole:
            _keep_whole(sums, rows, bias, scales, row_scales, out, out_row)
        else:
            _keep_floats(sums, rows, bias, scales, row_scales, out, out_row)
        _activate(sums, rows * PIECE)
        _write(sums, rows, out, out_row)


@njit(**COMPILED)
def _activate(scratch, count):
    # One long loop, because LLVM does not vectorise an inner loop of 64.
    sums = carray(pointer(scratch), count, float32)
    for i in range(count):
        sums[i] = gelu(sums[i])


@njit(**COMPILED)
def _write(sums, rows, out, out_row):
    for row in range(rows):
        for lane in range(0, PIECE, LANES):
            place = out + out_row * row + NUMBER_BYTES * lane
            if NUMBER_BYTES == 2:
                round_lanes(sums + ROW * row + 4 * lane, place)
            else:
                copy_lanes(sums + ROW * row + 4 * lane, place)
