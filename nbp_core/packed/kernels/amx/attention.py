"""Attention over a bfloat16 cache with matrix tiles (AMX).

Keys and values are each read once, as four streams of addresses side by side. Shapes: E head width,
L keys.
"""

from __future__ import annotations

import math
from typing import Final

from numba import carray, float32, njit, uint16

from nbp_core.packed.kernels.amx.tiles import TILE_BYTES, WHOLE, clear_sums, store_sums
from nbp_core.packed.kernels.instructions import (
    configure,
    load_tile,
    multiply_bfloat16,
    pointer,
    prefetch,
    store_tile,
    transpose_words,
)
from nbp_core.packed.kernels.jobs import COMPILED, LINE, PIECE, ROWS
from nbp_core.packed.kernels.numbers import LOG2_E
from nbp_core.packed.kernels.simd.lanes import LANES
from nbp_core.packed.kernels.simd.scores import (
    arrange_queries,
    gather_halves,
    hide,
    interleave,
    start_weights,
    weigh_eight,
)

PAIR: Final = 2 * LANES
"""Numbers that are interleaved at once."""
# Byte offsets in a thread's scratch buffer. Sums of tiles come first.
SUMS: Final = 4 * TILE_BYTES
"""Sum of the weights of each query."""
QUERIES: Final = SUMS + TILE_BYTES
"""Transposed queries, a tile for every 32 numbers of the head."""
TURNED: Final = QUERIES + 4 * TILE_BYTES
"""Interleaved values of 32 keys."""
STAGE: Final = TURNED + 4 * TILE_BYTES
"""A block of words to transpose, or copies of the last keys, padded with zeros."""
WEIGHTS: Final = STAGE + 16 * TILE_BYTES
"""Weights as bfloat16, followed by scores (L, 16) in float32."""


def attend_bytes(num_keys: int) -> int:
    """Bytes of scratch buffer per thread for this many keys."""
    tiles = -(-num_keys // 32) + -(-num_keys // PIECE) * 4
    return WEIGHTS + tiles * TILE_BYTES


@njit(**COMPILED)
def _scores_at(num_keys):
    """Byte offset of the scores in the scratch buffer: they follow the weights."""
    return WEIGHTS + (num_keys + 31) // 32 * TILE_BYTES


@njit(**COMPILED)
def attend(queries, rows, key, value, num_keys, reach, width, scratch, out, step):
    """Writes softmax(q k^T / sqrt(E)) v of up to sixteen queries as bfloat16, over the first L
    keys or those within each query's reach. Output rows are `step` bytes apart."""
    configure(WHOLE.ctypes.data)
    arrange_queries(queries, rows, width, scratch + STAGE, scratch + QUERIES)
    _score(key, num_keys, width, scratch)
    hide(scratch + _scores_at(num_keys), rows, num_keys, reach)
    _weigh(value, num_keys, width, scratch)
    for start in range(0, width, PIECE):
        _gather(value, num_keys, width, start, scratch)
        _divide(out + 2 * start, step, rows, min(PIECE, width - start), scratch)


@njit(**COMPILED)
def _divide(out, step, rows, count, scratch):
    """Divides the weighted sums of values by the sums of the weights and writes the outputs."""
    sums = carray(pointer(scratch + SUMS), ROWS, float32)
    for row in range(rows):
        factor = float32(1.0) / sums[row]
        for lane in range(0, count, PAIR):
            found = scratch + 4 * (PIECE * row + lane)
            gather_halves(found, factor, out + step * row + 2 * lane)


@njit(**COMPILED)
def _keys_of(address, first, count, num_keys, width, scratch, slot):
    """Address of keys [first, first + count). If some are past the end, it is that of a copy in
    which these are zero."""
    if first + count <= num_keys:
        return address + 2 * first * width
    stage = scratch + STAGE + 2 * slot * count * width
    for i in range(count):
        source = carray(pointer(address + 2 * (first + i) * width), width, uint16)
        copied = carray(pointer(stage + 2 * i * width), width, uint16)
        for j in range(width):
            copied[j] = source[j] if first + i < num_keys else uint16(0)
    return stage


@njit(**COMPILED)
def _score(key, num_keys, width, scratch):
    """Computes the products of every key with the sixteen queries; keys are the rows. Four streams
    of keys are read side by side."""
    scores, size = scratch + _scores_at(num_keys), 2 * width * ROWS
    stream = (num_keys + PIECE - 1) // PIECE
    for tile in range(stream):
        a = _keys_of(key, ROWS * tile, ROWS, num_keys, width, scratch, 0)
        b = _keys_of(key, ROWS * (tile + stream), ROWS, num_keys, width, scratch, 1)
        c = _keys_of(key, ROWS * (tile + 2 * stream), ROWS, num_keys, width, scratch, 2)
        d = _keys_of(key, ROWS * (tile + 3 * stream), ROWS, num_keys, width, scratch, 3)
        clear_sums()
        for part in range(0, 2 * width, LINE):
            for line in range(size + ROWS * part, size + ROWS * (part + LINE), LINE):
                prefetch(a + line)
                prefetch(b + line)
                prefetch(c + line)
                prefetch(d + line)
            load_tile(4, scratch + QUERIES + ROWS * part, LINE)
            load_tile(5, a + part, 2 * width)
            multiply_bfloat16(0, 5, 4)
            load_tile(6, b + part, 2 * width)
            multiply_bfloat16(1, 6, 4)
            load_tile(7, c + part, 2 * width)
            multiply_bfloat16(2, 7, 4)
            load_tile(5, d + part, 2 * width)
            multiply_bfloat16(3, 5, 4)
        store_tile(0, scores, LINE)
        store_tile(1, scores + stream * TILE_BYTES, LINE)
        store_tile(2, scores + 2 * stream * TILE_BYTES, LINE)
        store_tile(3, scores + 3 * stream * TILE_BYTES, LINE)
        scores += TILE_BYTES


@njit(**COMPILED)
def _weigh(value, num_keys, width, scratch):
    """Computes the weights exp(score - largest) and their sums.

    Weights are bfloat16 with queries as rows, a tile for every 32 keys. Values are prefetched
    meanwhile, since nothing else is read from memory.
    """
    padded = (num_keys + 31) // 32 * 32
    scores = scratch + _scores_at(num_keys)
    start_weights(scores, num_keys, padded, scratch, scratch + SUMS)
    sharpness = float32(LOG2_E / math.sqrt(width))
    for part in range(padded // 8):
        for line in range(4 * width * part, 4 * width * (part + 1), LINE):
            for stream in range(4):
                prefetch(value + stream * padded // 2 * width + line)
        words = scratch + STAGE + 4 * LINE * (part % 4)
        weigh_eight(scores + 8 * LINE * part, scratch, sharpness, scratch + SUMS, words)
        if part % 4 == 3:
            transpose_words(scratch + STAGE, scratch + WEIGHTS + TILE_BYTES * (part // 4))


@njit(**COMPILED)
def _gather(value, num_keys, width, start, scratch):
    """Sums up the weighted values, for up to 64 numbers of the head from `start` on."""
    count = min(PIECE, width - start)
    clear_sums()
    for first in range(0, num_keys, 32):
        at = _keys_of(value, first, 32, num_keys, width, scratch, 0)
        for pair in range(16):
            one, words = at + 2 * (2 * pair * width + start), scratch + TURNED + 4 * PIECE * pair
            for lane in range(0, count, PAIR):
                interleave(one + 2 * lane, one + 2 * (width + lane), words + 4 * lane)
        load_tile(4, scratch + WEIGHTS + TILE_BYTES * (first // 32), LINE)
        load_tile(5, scratch + TURNED, 4 * PIECE)
        multiply_bfloat16(0, 4, 5)
        load_tile(6, scratch + TURNED + LINE, 4 * PIECE)
        multiply_bfloat16(1, 4, 6)
        if count > 32:
            load_tile(7, scratch + TURNED + 2 * LINE, 4 * PIECE)
            multiply_bfloat16(2, 4, 7)
            load_tile(5, scratch + TURNED + 3 * LINE, 4 * PIECE)
            multiply_bfloat16(3, 4, 5)
    store_sums(scratch)
