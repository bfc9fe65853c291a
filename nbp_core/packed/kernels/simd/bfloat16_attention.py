"""Attention to a cache of bfloat16, sixteen queries side by side, for processors that multiply
pairs of bfloat16 in their vectors. E head width, L keys.
"""

from __future__ import annotations

import math
from typing import Final

from numba import carray, float32, int32, njit, uint16

from nbp_core.packed.kernels.instructions import pointer, prefetch, transpose_words
from nbp_core.packed.kernels.jobs import COMPILED, LINE, ROWS
from nbp_core.packed.kernels.numbers import LOG2_E
from nbp_core.packed.kernels.simd.dots import BRAIN_PAIRS, HELD, WIDTH, kernel
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
KEYS: Final = 64
"""Keys whose values are woven together at once: as many as the first-level cache holds."""
WIDEST: Final = 128
TOTALS: Final = LINE
"""Places in a thread's scratch, after the largest scores: sums of weights,"""
FOUND: Final = TOTALS + LINE
"""sums of values,"""
QUERIES: Final = FOUND + 4 * ROWS * WIDEST
"""queries, pairs of numbers of the head side by side,"""
STAGE: Final = QUERIES + 4 * ROWS * WIDEST // 2
"""words to be turned, later values of pairs of keys side by side,"""
SCORES: Final = STAGE + 2 * (KEYS + 2) * WIDEST
"""scores of each key, which become weights of pairs of keys."""
SCORED, GATHERED = HELD * WIDTH // LANES, HELD * WIDTH // PAIR
"""Keys, and queries, whose sums are in the registers at once."""
score_many = kernel(BRAIN_PAIRS, SCORED, LANES // WIDTH, 1 if SCORED == LANES else 0, True)
score_one = kernel(BRAIN_PAIRS, 1, LANES // WIDTH, 0, True)
gather_many, gather_one = (kernel(BRAIN_PAIRS, rows, PAIR // WIDTH) for rows in (GATHERED, 1))


def attend_bytes(num_keys: int) -> int:
    """Memory that a thread needs of its own to attend to so many keys."""
    return SCORES + LINE * (num_keys + KEYS)


@njit(**COMPILED)
def attend(queries, rows, key, value, num_keys, reach, width, scratch, out, step):
    """Some rows of bfloat16: softmax(q k^T / sqrt(E)) v over the first L keys, or those within a
    row's reach, to rows that are `step` bytes apart."""
    _arrange_queries(queries, rows, width, scratch)
    _score(key, num_keys, width, scratch)
    hide(scratch + SCORES, rows, num_keys, reach)
    _weigh(value, num_keys, width, scratch)
    found = carray(pointer(scratch + FOUND), ROWS * width, float32)
    for i in range(ROWS * width):
        found[i] = float32(0.0)
    for first in range(0, num_keys, KEYS):
        _gather(value, rows, first, min(KEYS, num_keys - first), width, scratch)
    totals = carray(pointer(scratch + TOTALS), ROWS, float32)
    for row in range(rows):
        factor = float32(1.0) / totals[row]
        for lane in range(0, width, PAIR):
            place = scratch + FOUND + 4 * (width * row + lane)
            gather_halves(place, factor, out + step * row + 2 * lane)


@njit(**COMPILED)
def _arrange_queries(queries, rows, width, scratch):
    """Missing rows are zero."""
    words = carray(pointer(scratch + STAGE), (ROWS, LANES), int32)
    for part in range(width // PAIR):
        for row in range(ROWS):
            source = carray(pointer(queries + 2 * width * row + LINE * part), LANES, int32)
            for i in range(LANES):
                words[row, i] = source[i] if row < rows else int32(0)
        transpose_words(scratch + STAGE, scratch + QUERIES + LANES * LINE * part)


@njit(**COMPILED)
def _score(key, num_keys, width, scratch):
    """Products of every key with the 16 queries."""
    at, first = scratch + QUERIES, 0
    while first < num_keys:
        keys, scores = key + 2 * width * first, scratch + SCORES + LINE * first
        if first + SCORED <= num_keys:
            ask = keys + 2 * width * SCORED
            score_many(keys, 2 * width, 4, at, LINE, width // 2, scores, LINE, ask)
            first += SCORED
        else:
            score_one(keys, 2 * width, 4, at, LINE, width // 2, scores, LINE, 0)
            first += 1


@njit(**COMPILED)
def _weigh(value, num_keys, width, scratch):
    """Scores -> exp of what they are below the largest, as pairs of bfloat16, and their sums.
    Values are asked for meanwhile: nothing else is read."""
    padded, scores = (num_keys + 7) // 8 * 8, scratch + SCORES
    past = carray(pointer(scores + LINE * num_keys), (padded - num_keys) * ROWS, float32)
    for i in range((padded - num_keys) * ROWS):
        past[i] = float32(-1e30)
    find_largest(scores, padded, scratch)
    totals = carray(pointer(scratch + TOTALS), ROWS, float32)
    for row in range(ROWS):
        totals[row] = float32(0.0)
    sharpness = float32(LOG2_E / math.sqrt(width))
    for part in range(padded // 8):
        for line in range(16 * width * part, 16 * width * (part + 1), LINE):
            prefetch(value + line)
        # In their own place: eight rows become four.
        words = scores + 4 * LINE * part
        weigh_eight(scores + 8 * LINE * part, scratch, sharpness, scratch + TOTALS, words)


@njit(**COMPILED)
def _gather(value, rows, first, count, width, scratch):
    """Adds values of some keys by weight."""
    pairs = (count + 1) // 2
    for pair in range(pairs):
        one = value + 2 * width * (first + 2 * pair)
        other, words = one + 2 * width, scratch + STAGE + 4 * width * pair
        if 2 * pair + 1 == count:
            other = scratch + STAGE + 4 * width * pairs
            past = carray(pointer(other), width, uint16)
            for i in range(width):
                past[i] = uint16(0)
        for lane in range(0, width, PAIR):
            interleave(one + 2 * lane, other + 2 * lane, words + 4 * lane)
    weights = scratch + SCORES + LINE * first // 2
    for lane in range(0, width, PAIR):
        values, row = scratch + STAGE + 4 * lane, 0
        while row < rows:
            x, found = weights + 4 * row, scratch + FOUND + 4 * (width * row + lane)
            if rows == 1:
                gather_one(x, 4, LINE, values, 4 * width, pairs, found, 4 * width, 0)
            else:
                gather_many(x, 4, LINE, values, 4 * width, pairs, found, 4 * width, 0)
            row += GATHERED
