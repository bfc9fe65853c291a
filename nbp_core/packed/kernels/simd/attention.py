"""Attention to a cache in float32, sixteen queries side by side, for processors without matrix
tiles. E head width, L keys.
"""

from __future__ import annotations

import math
from typing import Final

from numba import carray, float32, njit

from nbp_core.packed.kernels.instructions import pointer
from nbp_core.packed.kernels.jobs import COMPILED, LINE, ROWS
from nbp_core.packed.kernels.simd.lanes import (
    AT_ONCE,
    COLUMNS,
    gather_row,
    gather_rows,
    score_row,
    score_rows,
)
from nbp_core.packed.kernels.simd.scores import find_largest, hide, weigh

SUMS: Final = LINE
"""Places in a thread's scratch, after the largest scores: sums of weights,"""
FOUND: Final = SUMS + LINE
"""sums of values,"""
QUERIES: Final = FOUND + 128 * LINE
"""queries, those of a number of the head side by side,"""
SCORES: Final = QUERIES + 128 * LINE
"""scores of each key, which become weights."""


def attend_bytes(num_keys: int) -> int:
    """Memory that a thread needs of its own to attend to so many keys."""
    return SCORES + LINE * num_keys


@njit(**COMPILED)
def attend(queries, rows, key, value, num_keys, reach, width, scratch, out, step):
    """Some rows of float32: softmax(q k^T / sqrt(E)) v over the first L keys, or those within a
    row's reach, to rows that are `step` bytes apart."""
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
    """Missing rows are zero."""
    turned = carray(pointer(scratch + QUERIES), ROWS * width, float32)
    for row in range(ROWS):
        source = carray(pointer(queries + 4 * width * row), width, float32)
        for i in range(width):
            turned[ROWS * i + row] = source[i] if row < rows else float32(0.0)


@njit(**COMPILED)
def _score(key, num_keys, width, scratch):
    """Products of every key with the 16 queries."""
    at, first = scratch + QUERIES, 0
    while first < num_keys:
        keys, scores = key + 4 * width * first, scratch + SCORES + LINE * first
        if first + AT_ONCE <= num_keys:
            score_rows(keys, 4 * width, 4, at, LINE, width, scores, LINE)
            first += AT_ONCE
        else:
            score_row(keys, 4 * width, 4, at, LINE, width, scores, LINE)
            first += 1


@njit(**COMPILED)
def _gather(value, rows, num_keys, width, scratch):
    """Sums of values by weight. For one row alone, or for all there is room for."""
    for column in range(0, width, COLUMNS):
        if rows == 1:
            found = scratch + FOUND + 4 * column
            place = value + 4 * column
            gather_row(scratch + SCORES, 4, LINE, place, 4 * width, num_keys, found, 4 * width)
            continue
        for row in range(0, rows, AT_ONCE):
            found, place = scratch + FOUND + 4 * (width * row + column), value + 4 * column
            weights = scratch + SCORES + 4 * row
            gather_rows(weights, 4, LINE, place, 4 * width, num_keys, found, 4 * width)
