"""Attention over a float32 cache, for processors without bfloat16 products.

Sixteen queries are computed at once. Shapes: E head width, L keys.
"""

from __future__ import annotations

import math
from typing import Final

from numba import carray, float32, njit

from nbp_core.packed.kernels.instructions import pointer
from nbp_core.packed.kernels.jobs import COMPILED, LINE, ROWS
from nbp_core.packed.kernels.simd.dots import FLOATS, HELD, WIDTH, kernel
from nbp_core.packed.kernels.simd.lanes import LANES
from nbp_core.packed.kernels.simd.one_query import attend_one
from nbp_core.packed.kernels.simd.scores import find_largest, hide, weigh

# Byte offsets in a thread's scratch buffer. The largest score of each query comes first.
SUMS: Final = LINE
"""Sum of the weights of each query."""
FOUND: Final = SUMS + LINE
"""Weighted sums of values, (16, E)."""
QUERIES: Final = FOUND + 128 * LINE
"""Transposed queries, (E, 16)."""
SCORES: Final = QUERIES + 128 * LINE
"""Scores (L, 16), which are replaced by weights."""

COLUMNS: Final = 32
"""Numbers of a value that are summed up at once."""
SCORED, GATHERED = HELD * WIDTH // LANES, HELD * WIDTH // COLUMNS
"""Number of keys (scores) and of queries (values) whose sums fit the registers."""
AHEAD: Final = 16
"""Keys whose values are prefetched before they are used."""
score_many, score_one = (
    kernel(FLOATS, keys, LANES // WIDTH, lines=1, is_fresh=True) for keys in (SCORED, 1)
)
gather_many = kernel(FLOATS, GATHERED, COLUMNS // WIDTH, 4 * COLUMNS // LINE, is_fresh=True)


def attend_bytes(num_keys: int) -> int:
    """Bytes of scratch buffer per thread for this many keys."""
    return SCORES + LINE * num_keys


@njit(**COMPILED)
def attend(queries, rows, key, value, num_keys, reach, width, scratch, out, step):
    """Writes softmax(q k^T / sqrt(E)) v of up to sixteen queries as float32, over the first L keys
    or those within each query's reach. Output rows are `step` bytes apart."""
    if rows == 1:
        attend_one(queries, key, value, num_keys, width, scratch, out)
        return
    _arrange_queries(queries, rows, width, scratch)
    _score(key, num_keys, width, scratch)
    hide(scratch + SCORES, rows, num_keys, reach)
    find_largest(scratch + SCORES, num_keys, scratch)
    weigh(scratch + SCORES, num_keys, scratch, float32(1.0 / math.sqrt(width)), scratch + SUMS)
    _gather(value, rows, num_keys, width, scratch)
    sums = carray(pointer(scratch + SUMS), ROWS, float32)
    for row in range(rows):
        found = carray(pointer(scratch + FOUND + 4 * width * row), width, float32)
        target = carray(pointer(out + step * row), width, float32)
        factor = float32(1.0) / sums[row]
        for i in range(width):
            target[i] = found[i] * factor


@njit(**COMPILED)
def _arrange_queries(queries, rows, width, scratch):
    """Transposes the queries. Missing ones are zero."""
    turned = carray(pointer(scratch + QUERIES), ROWS * width, float32)
    for row in range(ROWS):
        source = carray(pointer(queries + 4 * width * row), width, float32)
        for i in range(width):
            turned[ROWS * i + row] = source[i] if row < rows else float32(0.0)


@njit(**COMPILED)
def _score(key, num_keys, width, scratch):
    """Computes the products of every key with the sixteen queries."""
    at, first = scratch + QUERIES, 0
    while first < num_keys:
        keys, scores = key + 4 * width * first, scratch + SCORES + LINE * first
        if first + SCORED <= num_keys:
            ask = keys + 4 * width * SCORED
            score_many(keys, 4 * width, 4, at, LINE, 0, width, scores, LINE, ask, 4 * SCORED)
            first += SCORED
        else:
            score_one(keys, 4 * width, 4, at, LINE, 0, width, scores, LINE, keys, 0)
            first += 1


@njit(**COMPILED)
def _gather(value, rows, num_keys, width, scratch):
    """Sums up the weighted values."""
    for column in range(0, width, COLUMNS):
        found, place = scratch + FOUND + 4 * column, value + 4 * column
        for row in range(0, rows, GATHERED):
            weights, sums = scratch + SCORES + 4 * row, found + 4 * width * row
            step, ask = 4 * width, place + 4 * width * AHEAD
            gather_many(weights, 4, LINE, place, step, 0, num_keys, sums, step, ask, step)
