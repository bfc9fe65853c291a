"""Matrix products with vector instructions, for processors without matrix tiles.

Weights are read from memory once, in chunks that fit the first-level cache. Groups of rows whose
sums fit the registers use a chunk one after the other. Meanwhile the kernel prefetches the next
chunk, and at the end of a piece the first chunk of the thread's next piece. The hardware does not
prefetch while a chunk is read repeatedly.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from numba import njit
from torch import Tensor

from nbp_core.packed.kernels.jobs import COMPILED, LINE, PIECE, PRODUCT, PRODUCT_INT8, ROWS
from nbp_core.packed.kernels.numbers import IN_USE, LEVEL_BYTES, NUMBER_BYTES
from nbp_core.packed.kernels.simd.dots import (
    BRAIN_PAIRS,
    BYTE_PAIRS,
    FLOATS,
    HALVES,
    QUADS,
    WIDTH,
    Dot,
    kernel,
    vectors_for,
)
from nbp_core.packed.kernels.simd.lanes import start_row, unpack, widen

CHUNK: Final = 64
"""Lanes of inputs per chunk."""
STAGE: Final = 4 * ROWS * PIECE
"""Byte offset of widened weights in a thread's scratch buffer; sums come before."""
GROUP: Final = 4
"""Rows whose sums fit the registers."""
ROW: Final = 4 * PIECE
"""Bytes of a row of sums."""


def arranged(weight_OI: Tensor) -> Tensor:
    """Reorders a matrix of weights into pieces of 64 outputs.

    Within a piece, the weights of one lane (32 bits of activations) lie side by side for all
    outputs. uint8 weights are indices into `jobs.LEVELS`; two of them share a byte, from two
    neighbouring cache lines.
    """
    num_outputs, num_inputs = weight_OI.shape
    inputs = _inputs_of_lane(weight_OI.dtype)
    pieces = weight_OI.view(num_outputs // PIECE, PIECE, num_inputs // inputs, inputs)
    ordered = pieces.transpose(1, 2).contiguous()
    if weight_OI.dtype != torch.uint8:
        return ordered
    lower, upper = ordered.view(-1, 2, LINE).unbind(1)
    packed = upper << 4
    packed |= lower
    return packed


def _inputs_of_lane(dtype: torch.dtype) -> int:
    if dtype.is_floating_point:
        return 4 // NUMBER_BYTES
    return 4 // LEVEL_BYTES


def sums_bytes(row_size: int) -> int:
    """Bytes of scratch buffer per thread; the same for rows of any size."""
    return STAGE + CHUNK * ROW


@njit(**COMPILED)
def _as_it_is(weights, lines, room):
    return weights


@njit(**COMPILED)
def _unpacked(weights, lines, room):
    unpack(weights, lines, room)
    return room


@njit(**COMPILED)
def _widened(weights, lines, room):
    widen(weights, lines, room)
    return room


def _summing(read: Dot | None, kept: Dot, widened: Any, step: int) -> Any:
    """Returns a function that adds the products of rows of activations with a piece of weights.

    Rows are `x_row` bytes apart. Weights have `step` bytes for each of `count` lanes of inputs.
    Sums are float32 or int32. One or two rows use the dot product `read` on the weights in memory;
    more rows, or all if `read` is None, use `kept` on weights that `widened` wrote to the scratch
    buffer.
    """
    is_always = read is None
    read = read or kept
    one, two = kernel(read, 1, vectors_for(1)), kernel(read, 2, vectors_for(2))
    last, last_two = kernel(kept, 1, vectors_for(1)), kernel(kept, 2, vectors_for(2))
    plain = kernel(kept, GROUP, vectors_for(GROUP))
    ask_one, ask_two, ask_four = (
        kernel(kept, GROUP, vectors_for(GROUP), lines) for lines in (1, 2, 4)
    )
    at_once, at_once_two = WIDTH * vectors_for(GROUP), WIDTH * vectors_for(2)
    kept_step, item, read_item = PIECE * kept.weight_bytes, kept.weight_bytes, read.weight_bytes
    needed = step // LINE

    @njit(**COMPILED)
    def add_few(x, x_row, rows, weights, count, sums):
        if rows == 1:
            one(x, x_row, 4, weights, step, count, sums, ROW, 0)
        else:
            for column in range(0, PIECE, at_once_two):
                place = weights + read_item * column
                two(x, x_row, 4, place, step, count, sums + 4 * column, ROW, 0)

    @njit(**COMPILED)
    def add_chunk(x, x_row, rows, weights, count, sums, ask):
        """Adds one chunk for all rows and prefetches the next one, which is at `ask`."""
        turns = rows // GROUP * (PIECE // at_once)
        lines = 1 if turns >= needed else 2 if 2 * turns >= needed else 4
        every, turn = max(1, turns * lines // needed), 0
        while rows >= GROUP:
            for column in range(0, PIECE, at_once):
                w, s = weights + item * column, sums + 4 * column
                if turn % every:
                    plain(x, x_row, 4, w, kept_step, count, s, ROW, 0)
                elif lines == 1:
                    ask_one(x, x_row, 4, w, kept_step, count, s, ROW, ask)
                    ask += LINE * count
                elif lines == 2:
                    ask_two(x, x_row, 4, w, kept_step, count, s, ROW, ask)
                    ask += 2 * LINE * count
                else:
                    ask_four(x, x_row, 4, w, kept_step, count, s, ROW, ask)
                turn += 1
            x, sums, rows = x + GROUP * x_row, sums + GROUP * ROW, rows - GROUP
        if rows >= 2:
            for column in range(0, PIECE, at_once_two):
                w = weights + item * column
                last_two(x, x_row, 4, w, kept_step, count, sums + 4 * column, ROW, 0)
            x, sums, rows = x + 2 * x_row, sums + 2 * ROW, rows - 2
        if rows:
            last(x, x_row, 4, weights, kept_step, count, sums, ROW, 0)

    @njit(**COMPILED)
    def add_all(x, x_row, rows, weights, count, sums, room, following):
        """Adds all chunks, and prefetches the one at `following` during the last."""
        if rows <= 2 and not is_always:
            add_few(x, x_row, rows, weights, count, sums)
            return
        for first in range(0, count, CHUNK):
            now = min(CHUNK, count - first)
            place, ask = weights + step * first, weights + step * (first + now)
            place = widened(place, now * step // LINE, room)
            if first + now == count:
                ask = following
            add_chunk(x + 4 * first, x_row, rows, place, now, sums, ask)

    return add_all


_FLOAT_STEP: Final = PIECE * (BRAIN_PAIRS if IN_USE.has_bfloat16 else HALVES).weight_bytes
_INT8_STEP: Final = PIECE * 4 // LEVEL_BYTES
"""Bytes of a piece's weights per lane of inputs: bfloat16 or float16, and int8."""
if IN_USE.has_bfloat16:
    _add_floats = _summing(BRAIN_PAIRS, BRAIN_PAIRS, _as_it_is, _FLOAT_STEP)
else:
    _add_floats = _summing(HALVES, FLOATS, _widened, _FLOAT_STEP)
_OF_INT8: Final = QUADS if LEVEL_BYTES == 1 else BYTE_PAIRS
_add_int8 = _add_int4 = _add_floats
if IN_USE.int8 is not None:
    _add_int8 = _summing(_OF_INT8, _OF_INT8, _as_it_is, _INT8_STEP)
    _add_int4 = _summing(None, _OF_INT8, _unpacked, _INT8_STEP // 2)


@njit(**COMPILED)
def sum_up(job, scratch, first, rows, piece):
    """Computes the 64 outputs of a piece for up to 16 rows from `first` on.

    The sums go to the start of a thread's scratch buffer: float32, or int32 for int8 and int4.
    """
    is_whole = job.kind != PRODUCT
    x_row = job.row_size * (LEVEL_BYTES if is_whole else NUMBER_BYTES)
    x, count, room = job.input + first * x_row, x_row // 4, scratch + STAGE
    for row in range(rows):
        start_row(job.correction + ROW * piece if is_whole else 0, PIECE, scratch + ROW * row)
    size = count * _FLOAT_STEP
    if is_whole:
        size = count * (_INT8_STEP if job.kind == PRODUCT_INT8 else _INT8_STEP // 2)
    weights = job.weight + piece * size
    # Later rows need the same weights. Else the thread's next piece comes: the other threads take
    # those between. An address past the end does no harm.
    following = weights if first + rows < job.num_rows else weights + job.num_threads * size
    if not is_whole:
        _add_floats(x, x_row, rows, weights, count, scratch, room, following)
    elif job.kind == PRODUCT_INT8:
        _add_int8(x, x_row, rows, weights, count, scratch, room, following)
    else:
        _add_int4(x, x_row, rows, weights, count, scratch, room, following)
