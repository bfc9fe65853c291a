"""Attention to a cache in matrix tiles. Keys, then values, are read once, in four streams of
addresses each. E head width, L keys.
"""

from __future__ import annotations

import math
from typing import Final

from numba import carray, float32, int32, njit, uint16

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
    find_largest,
    gather_halves,
    hide,
    interleave,
    weigh_eight,
)

PAIR: Final = 2 * LANES
"""Numbers that are woven together at once."""
SUMS: Final = 4 * TILE_BYTES
"""Places in a thread's scratch, after the sums in tiles: the sums of weights,"""
QUERIES: Final = SUMS + TILE_BYTES
"""turned queries,"""
TURNED: Final = QUERIES + 4 * TILE_BYTES
"""turned values,"""
STAGE: Final = TURNED + 4 * TILE_BYTES
"""words to be turned or keys past the end,"""
WEIGHTS: Final = STAGE + 16 * TILE_BYTES
"""weights, and after them scores."""


def attend_bytes(num_keys: int) -> int:
    """Memory that a thread needs of its own to attend to so many keys."""
    tiles = -(-num_keys // 32) + -(-num_keys // PIECE) * 4
    return WEIGHTS + tiles * TILE_BYTES


@njit(**COMPILED)
def _scores_at(num_keys):
    """Place of the scores, after the weights of so many keys."""
    return WEIGHTS + (num_keys + 31) // 32 * TILE_BYTES


@njit(**COMPILED)
def attend(queries, rows, key, value, num_keys, reach, width, scratch, out, step):
    """Some rows of bfloat16: softmax(q k^T / sqrt(E)) v over the first L keys, or those within a
    row's reach, to rows that are `step` bytes apart."""
    configure(WHOLE.ctypes.data)
    _arrange_queries(queries, rows, width, scratch)
    _score(key, num_keys, width, scratch)
    hide(scratch + _scores_at(num_keys), rows, num_keys, reach)
    _weigh(value, num_keys, width, scratch)
    for start in range(0, width, PIECE):
        _gather(value, num_keys, width, start, scratch)
        _divide(out + 2 * start, step, rows, min(PIECE, width - start), scratch)


@njit(**COMPILED)
def _divide(out, step, rows, count, scratch):
    """Gathered sums over the sums of the weights, to the outputs' places."""
    sums = carray(pointer(scratch + SUMS), ROWS, float32)
    for row in range(rows):
        factor = float32(1.0) / sums[row]
        for lane in range(0, count, PAIR):
            found = scratch + 4 * (PIECE * row + lane)
            gather_halves(found, factor, out + step * row + 2 * lane)


@njit(**COMPILED)
def _arrange_queries(queries, rows, width, scratch):
    """Queries with inputs as rows, in pairs, a tile for each 32 inputs; missing rows are zero."""
    words = carray(pointer(scratch + STAGE), (ROWS, 16), int32)
    for part in range(width // 32):
        for row in range(ROWS):
            source = carray(pointer(queries + 2 * width * row + LINE * part), 16, int32)
            for i in range(16):
                words[row, i] = source[i] if row < rows else int32(0)
        transpose_words(scratch + STAGE, scratch + QUERIES + TILE_BYTES * part)


@njit(**COMPILED)
def _keys_of(address, first, count, num_keys, width, scratch, slot):
    """Address of keys [first, first + count), or of a copy of them where some are past the end:
    those are zero there."""
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
    """Products of every key with the 16 queries, keys as rows; four streams of keys."""
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
    """Scores -> exp of what they are below the largest, as bfloat16 with queries as rows, a tile
    for each 32 keys; and their sums. Values are asked for meanwhile: nothing else is read."""
    padded = (num_keys + 31) // 32 * 32
    scores = scratch + _scores_at(num_keys)
    past = carray(pointer(scores + LINE * num_keys), (padded - num_keys) * ROWS, float32)
    for i in range((padded - num_keys) * ROWS):
        past[i] = float32(-1e30)
    find_largest(scores, padded, scratch)
    sums = carray(pointer(scratch + SUMS), ROWS, float32)
    for row in range(ROWS):
        sums[row] = float32(0.0)
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
    """Sums of values by weight, of up to 64 numbers of the head from `start` on."""
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
