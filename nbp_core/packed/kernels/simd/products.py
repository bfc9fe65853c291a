"""Matrix products with vector instructions, for processors without matrix tiles.

Weights are read from memory once. Groups of rows whose sums fit the registers use a chunk of
weights one after the other, while it is in the first-level cache. Meanwhile the kernel prefetches
the next chunk. One or two rows read the columns of a piece as streams of addresses side by side,
since the hardware prefetches one stream more slowly than memory can deliver.
"""

from __future__ import annotations

from typing import Any, Final

from numba import njit

from nbp_core.packed.kernels.jobs import COMPILED, LINE, PIECE, PRODUCT, PRODUCT_INT8, ROW, ROWS
from nbp_core.packed.kernels.numbers import IN_USE, LEVEL_BYTES, NUMBER_BYTES
from nbp_core.packed.kernels.simd.dots import (
    BRAIN_PAIRS,
    BYTE_PAIRS,
    FLOATS,
    HALVES,
    HELD,
    QUADS,
    WIDTH,
    Dot,
    kernel,
)
from nbp_core.packed.kernels.simd.lanes import start_row, unpack, widen

COLUMN: Final = 32 if WIDTH == 16 else 16
"""Outputs whose weights follow each other in memory."""
STREAMS: Final = PIECE // COLUMN
"""Columns of a piece."""
PER_COLUMN: Final = COLUMN // WIDTH
"""Vectors of a column."""
CHUNK: Final = 128 * COLUMN
"""Bytes of a column's weights that rows use one after the other."""
STAGE: Final = 4 * ROWS * PIECE
"""Byte offset of widened weights in a thread's scratch buffer; sums come before."""
GROUP: Final = HELD // PER_COLUMN
"""Rows whose sums of a column fit the registers."""


def sums_bytes(row_size: int) -> int:
    """Bytes of scratch buffer per thread; the same for rows of any size."""
    return STAGE + 2 * CHUNK


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


def _in_groups(dot: Dot, lines: int) -> Any:
    """Returns a function that adds the products of rows with a chunk of a column's weights, and
    prefetches the next chunk, which is at `ask`."""
    add = _nothing
    for size in (1, 2, 4, 8):
        if size <= GROUP:
            add = _in_groups_of(size, kernel(dot, size, PER_COLUMN, lines), add)
    return add


def _in_groups_of(size: int, add_products: Any, add_rest: Any) -> Any:
    """As `_in_groups`, for `size` rows at a time as long as there are so many."""

    @njit(**COMPILED)
    def add(x, x_row, rows, weights, step, count, sums, ask, ask_k):
        while rows >= size:
            add_products(x, x_row, 4, weights, step, 0, count, sums, ROW, ask, ask_k)
            x, sums, rows = x + size * x_row, sums + size * ROW, rows - size
            ask += ask_k * count
        add_rest(x, x_row, rows, weights, step, count, sums, ask, ask_k)

    return add


@njit(**COMPILED)
def _nothing(x, x_row, rows, weights, step, count, sums, ask, ask_k):
    pass


def _summing(read: Dot | None, kept: Dot, widened: Any, step: int) -> Any:
    """Returns a function that adds the products of rows of activations with a piece of weights.

    Rows are `x_row` bytes apart. A column of weights has `step` bytes for each of `count` lanes of
    inputs. Sums are float32 or int32. One or two rows use the dot product `read` on the weights in
    memory; more rows, or all if `read` is None, use `kept` on weights that `widened` wrote to the
    scratch buffer.
    """
    is_always = read is None
    read = read or kept
    at_once = min(STREAMS, HELD // (2 * PER_COLUMN))
    one = kernel(read, 1, STREAMS * PER_COLUMN, num_streams=STREAMS)
    two = kernel(read, 2, at_once * PER_COLUMN, num_streams=at_once)
    add_rows = _in_groups(kept, -(-step // LINE))
    kept_step = COLUMN * kept.weight_bytes
    chunk = CHUNK // step

    @njit(**COMPILED)
    def add_few(x, x_row, rows, weights, count, sums):
        stream = step * count
        if rows == 1:
            one(x, x_row, 4, weights, step, stream, count, sums, ROW, 0, 0)
        else:
            for column in range(0, STREAMS, at_once):
                place, found = weights + stream * column, sums + 4 * COLUMN * column
                two(x, x_row, 4, place, step, stream, count, found, ROW, 0, 0)

    @njit(**COMPILED)
    def add_all(x, x_row, rows, weights, count, sums, room):
        if rows <= 2 and not is_always:
            add_few(x, x_row, rows, weights, count, sums)
            return
        ask_k = step * GROUP // max(rows, GROUP)
        stream = step * count
        for first in range(0, count, chunk):
            now = min(chunk, count - first)
            for column in range(STREAMS):
                place = weights + stream * column + step * first
                ask = place + step * now
                if first + now == count:
                    ask = weights + stream * (STREAMS + column)
                place = widened(place, now * step // LINE, room)
                found = sums + 4 * COLUMN * column
                add_rows(x + 4 * first, x_row, rows, place, kept_step, now, found, ask, ask_k)

    return add_all


_FLOAT_STEP: Final = COLUMN * (BRAIN_PAIRS if IN_USE.has_bfloat16 else HALVES).weight_bytes
_INT8_STEP: Final = COLUMN * 4 // LEVEL_BYTES
"""Bytes of a column's weights per lane of inputs: bfloat16 or float16, and int8."""
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
    weights = job.weight + piece * STREAMS * size
    if not is_whole:
        _add_floats(x, x_row, rows, weights, count, scratch, room)
    elif job.kind == PRODUCT_INT8:
        _add_int8(x, x_row, rows, weights, count, scratch, room)
    else:
        _add_int4(x, x_row, rows, weights, count, scratch, room)
