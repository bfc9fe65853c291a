"""Attention over a bfloat16 cache, for processors with dot products of bfloat16 pairs.

Sixteen queries are computed at once. Memory is never idle: later keys are prefetched while scores
are computed, and later values while weighted values are summed. Shapes: E head width, L keys.
"""

from __future__ import annotations

import math
from typing import Final

from numba import carray, float32, njit, uint16

from nbp_core.packed.kernels.instructions import pointer, prefetch
from nbp_core.packed.kernels.jobs import COMPILED, LINE, ROWS
from nbp_core.packed.kernels.numbers import LOG2_E
from nbp_core.packed.kernels.simd.dots import BRAIN_PAIRS, HELD, WIDTH, kernel
from nbp_core.packed.kernels.simd.lanes import LANES
from nbp_core.packed.kernels.simd.one_query import WIDEST, attend_one
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
KEYS: Final = 64
"""Keys whose values are interleaved before they are used: they fit the first-level cache."""
AHEAD: Final = 2 * KEYS
"""Keys whose values are prefetched before they are used."""
# Byte offsets in a thread's scratch buffer. The largest score of each query comes first.
TOTALS: Final = LINE
"""Sum of the weights of each query."""
FOUND: Final = TOTALS + LINE
"""Weighted sums of values, (16, E) float32."""
QUERIES: Final = FOUND + 4 * ROWS * WIDEST
"""Transposed queries, (E / 2, 16) pairs of bfloat16."""
STAGE: Final = QUERIES + 4 * ROWS * WIDEST // 2
"""First a block of words to transpose, then the interleaved values."""
SCORES: Final = STAGE + 2 * (KEYS + 2) * WIDEST
"""Scores (L, 16) float32, which are replaced by weights of pairs of keys in bfloat16."""
SCORED, GATHERED = HELD * WIDTH // LANES, HELD * WIDTH // PAIR
"""Number of keys (scores) and of queries (values) whose sums fit the registers."""
score_many = kernel(BRAIN_PAIRS, SCORED, LANES // WIDTH, 1 if SCORED == LANES else 0, True)
score_one = kernel(BRAIN_PAIRS, 1, LANES // WIDTH, 0, True)
gather_many = kernel(BRAIN_PAIRS, GATHERED, PAIR // WIDTH, 2)


def attend_bytes(num_keys: int) -> int:
    """Bytes of scratch buffer per thread for this many keys."""
    return SCORES + LINE * (num_keys + KEYS)


@njit(**COMPILED)
def attend(queries, rows, key, value, num_keys, reach, width, scratch, out, step):
    """Writes softmax(q k^T / sqrt(E)) v of up to sixteen queries as bfloat16, over the first L
    keys or those within each query's reach. Output rows are `step` bytes apart."""
    if rows == 1:
        attend_one(queries, key, value, num_keys, width, scratch, out)
        return
    arrange_queries(queries, rows, width, scratch + STAGE, scratch + QUERIES)
    _score(key, value, num_keys, width, scratch)
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
def _score(key, value, num_keys, width, scratch):
    """Computes the products of every key with the sixteen queries.

    Each group prefetches the keys of the second group after it. The last two prefetch values.
    """
    at, first = scratch + QUERIES, 0
    while first < num_keys:
        keys, scores = key + 2 * width * first, scratch + SCORES + LINE * first
        if first + SCORED <= num_keys:
            ask = keys + 4 * width * SCORED
            if first + 3 * SCORED > num_keys:
                ask = value + 2 * width * (first + 2 * SCORED - num_keys)
            score_many(keys, 2 * width, 4, at, LINE, 0, width // 2, scores, LINE, ask, LINE)
            first += SCORED
        else:
            score_one(keys, 2 * width, 4, at, LINE, 0, width // 2, scores, LINE, 0, 0)
            first += 1


@njit(**COMPILED)
def _weigh(value, num_keys, width, scratch):
    """Replaces scores by weights, exp(score - largest) as pairs of bfloat16, and sums these up.
    The values that are used first are prefetched."""
    padded, scores = (num_keys + 7) // 8 * 8, scratch + SCORES
    start_weights(scores, num_keys, padded, scratch, scratch + TOTALS)
    sharpness = float32(LOG2_E / math.sqrt(width))
    for part in range(padded // 8):
        if 8 * part < AHEAD:
            for line in range(16 * width * part, 16 * width * (part + 1), LINE):
                prefetch(value + line)
        # In place: eight rows of float32 become four rows of pairs.
        words = scores + 4 * LINE * part
        weigh_eight(scores + 8 * LINE * part, scratch, sharpness, scratch + TOTALS, words)


@njit(**COMPILED)
def _gather(value, rows, first, count, width, scratch):
    """Adds the weighted values of `count` keys, and prefetches later ones."""
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
    ask = value + 2 * width * (first + AHEAD)
    for lane in range(0, width, PAIR):
        values, row = scratch + STAGE + 4 * lane, 0
        while row < rows:
            x, found = weights + 4 * row, scratch + FOUND + 4 * (width * row + lane)
            gather_many(x, 4, LINE, values, 4 * width, 0, pairs, found, 4 * width, ask, 2 * LINE)
            ask += 2 * LINE * pairs
            row += GATHERED
