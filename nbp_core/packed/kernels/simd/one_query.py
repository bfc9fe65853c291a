"""Attention of a single query, for decoding token by token.

The kernels for sixteen queries have a lane of a vector register for each query. Here the lanes hold
the numbers of a key or a value instead, so that nothing is computed for padding. Keys and values
are read in order, so the processor prefetches them by itself. Shapes: E head width, L keys.
"""

from __future__ import annotations

import math
from typing import Any, Final

from llvmlite import ir
from numba import carray, float32, njit, types
from numba.core import cgutils

from nbp_core.packed.kernels.instructions import pointer
from nbp_core.packed.kernels.jobs import COMPILED, LINE
from nbp_core.packed.kernels.numbers import IN_USE, LOG2_E, NUMBER_BYTES
from nbp_core.packed.kernels.simd.dots import BRAIN_PAIRS, FLOATS, HELD, WIDTH, kernel, spread
from nbp_core.packed.kernels.simd.lanes import LANES, LONG, ROW, WORD, WORDS, Lanes, vectors
from nbp_core.packed.kernels.simd.scores import (
    HIDDEN,
    find_largest,
    gather_halves,
    interleaved,
    weigh,
    weigh_eight,
)

PAIR: Final = 2 * LANES
"""Keys whose weights share sixteen words: key i of the first sixteen and key 16 + i. Also the
numbers of two values that are interleaved at once."""
AT_ONCE: Final = 8 * LANES
"""Scores that become weights at once."""
WIDEST: Final = 128
"""The largest head width."""
KEYS: Final = 64
"""Keys whose values are used together: they fit the first-level cache."""
TURNS: Final = min(4, HELD * WIDTH // PAIR)
"""Words of weights per iteration. With fewer sums, additions would wait for those before them."""
SCORED: Final = HELD * WIDTH // LANES
"""Keys whose sums fit the registers."""
VECTOR: Final = 4 * WIDTH
"""Bytes of a vector register."""
# Byte offsets in a thread's scratch buffer. The largest score comes first, sixteen times.
TOTALS: Final = ROW
"""Sixteen numbers whose sum is that of the weights."""
FOUND: Final = TOTALS + ROW
"""The weighted sum of values, (E,) float32."""
SCORES: Final = FOUND + 4 * WIDEST
"""Scores (L,) float32, which are replaced by weights."""
_DOT: Final = BRAIN_PAIRS if IN_USE.has_bfloat16 else FLOATS
_add_floats = kernel(FLOATS, 1, PAIR // WIDTH, is_fresh=True)


@njit(**COMPILED)
def attend_one(query, key, value, num_keys, width, scratch, out):
    """Writes softmax(q k^T / sqrt(E)) v of one query over the first L keys to `out`.

    It needs less scratch buffer than sixteen queries do.
    """
    scores, step = scratch + SCORES, NUMBER_BYTES * width
    for first in range(0, num_keys, SCORED):
        at, last = key + step * first, num_keys - 1 - first
        _score(query, at, step, last, step // LINE, scores + 4 * first)
    factor = float32(1.0) / _weigh(scores, num_keys, width, scratch)
    _gather(value, num_keys, width, factor, scratch, out)


@vectors(*[types.int64] * 6)
def _score(
    lanes: Lanes, query: Any, keys: Any, step: Any, last: Any, count: Any, scores: Any
) -> None:
    """Writes the products of the query with `SCORED` keys, which are `step` bytes or `count` lines
    apart. In place of keys after the number `last`, key `last` is read again.

    Each product is made of sixteen sums, whatever the processor, so that all round alike.
    """
    places = [_place(lanes, keys, step, LONG(index), last) for index in range(SCORED)]
    parts = range(0, LINE, VECTOR)
    held = [_zeros(lanes, len(parts)) for _ in places]
    with cgutils.for_range(lanes.builder, count) as loop:
        line = lanes.mul(loop.index, LONG(LINE))
        for part, offset in enumerate(parts):
            at = lanes.add(line, LONG(offset))
            of_query = _DOT.load(lanes, lanes.add(query, at))
            for place, of_key in zip(places, held, strict=True):
                found, sums = _DOT.load(lanes, lanes.add(place, at)), of_key[part]
                lanes.store(_DOT.add(lanes, lanes.load(sums), found, of_query), sums)
    by_part = [[lanes.load(of_key[part]) for of_key in held] for part in range(len(parts))]
    total = lanes.joined([_sums_across(lanes, rows) for rows in by_part], lanes.fadd)
    mask = ir.Constant(ir.VectorType(WORD, SCORED), list(range(SCORED)))
    lanes.put(lanes.shuffle_vector(total, total, mask), scores)


def _place(lanes: Lanes, first: Any, step: Any, index: Any, last: Any) -> Any:
    """Emits the address of a key or value; after the number `last`, that of the last one."""
    is_past = lanes.icmp_signed(">", index, last)
    return lanes.add(first, lanes.mul(step, lanes.select(is_past, last, index)))


def _zeros(lanes: Lanes, count: int) -> list[Any]:
    """Allocates `count` vectors of sums that start at zero; returns their places."""
    found = [cgutils.alloca_once(lanes.builder, _DOT.sums) for _ in range(count)]
    for place in found:
        lanes.store(ir.Constant(_DOT.sums, None), place)
    return found


def _sums_across(lanes: Lanes, rows: list[Any]) -> Any:
    """Emits a vector with the sum over the lanes of each row, neighbours first."""
    half = 1
    while half < WIDTH:
        # Of two rows, lanes with this bit hold the sums of the second.
        first = [i if not i & half else WIDTH + (i ^ half) for i in range(WIDTH)]
        second = [i | half if not i & half else WIDTH + i for i in range(WIDTH)]
        masks = [ir.Constant(ir.VectorType(WORD, WIDTH), order) for order in (first, second)]
        pairs = zip(rows[::2], rows[1::2] or rows, strict=True)
        rows = [lanes.fadd(*(lanes.shuffle_vector(a, b, mask) for mask in masks)) for a, b in pairs]
        half *= 2
    return rows[0]


@njit(**COMPILED)
def _weigh(scores, num_keys, width, scratch):
    """Replaces the scores by weights, exp(score - largest), and returns the sum of these."""
    padded = (num_keys + AT_ONCE - 1) // AT_ONCE * AT_ONCE
    of_key = carray(pointer(scores), padded, float32)
    for i in range(num_keys, padded):
        of_key[i] = float32(HIDDEN)
    find_largest(scores, padded // LANES, scratch)
    largest, totals = carray(pointer(scratch), LANES, float32), scratch + TOTALS
    of_lane, most, total = carray(pointer(totals), LANES, float32), largest[0], float32(0.0)
    for lane in range(LANES):
        most = max(most, largest[lane])
    for lane in range(LANES):
        largest[lane] = most
        of_lane[lane] = float32(0.0)
    _replace(scores, padded // LANES, scratch, float32(1.0 / math.sqrt(width)), totals)
    for lane in range(LANES):
        total += of_lane[lane]
    return total


@njit(**COMPILED)
def _weigh_pairs(scores, count, largest, sharpness, totals):
    """As scores.weigh, but writes weights as bfloat16, in pairs as `PAIR` says."""
    for first in range(0, count, 8):
        # In place: eight rows of float32 become four rows of pairs.
        place, words = scores + ROW * first, scores + ROW // 2 * first
        weigh_eight(place, largest, float32(LOG2_E) * sharpness, totals, words)


@njit(**COMPILED)
def _gather_floats(value, num_keys, width, factor, scratch, out):
    """Sums up weighted values of float32 and writes the sums times `factor`."""
    weights, found = scratch + SCORES, scratch + FOUND
    for place in range(0, 4 * width, 4 * PAIR):
        _add_floats(weights, 0, 4, value + place, 4 * width, 0, num_keys, found + place, 0, 0, 0)
    sums = carray(pointer(found), width, float32)
    target = carray(pointer(out), width, float32)
    for i in range(width):
        target[i] = sums[i] * factor


@njit(**COMPILED)
def _gather_pairs(value, num_keys, width, factor, scratch, out):
    """Sums up weighted values of bfloat16 and writes the sums times `factor`."""
    step = 2 * width
    found = carray(pointer(scratch + FOUND), width, float32)
    for i in range(width):
        found[i] = float32(0.0)
    for first in range(0, num_keys, KEYS):
        count, weights = min(KEYS, num_keys - first), scratch + SCORES + 2 * first
        turns = (count + PAIR - 1) // PAIR * (LANES // TURNS)
        for place in range(0, step, 2 * PAIR):
            at = value + step * first + place
            _add_pairs(weights, at, step, count - 1, turns, scratch + FOUND + 2 * place)
    for lane in range(0, width, PAIR):
        gather_halves(scratch + FOUND + 4 * lane, factor, out + 2 * lane)


@vectors(*[types.int64] * 6)
def _add_pairs(
    lanes: Lanes, weights: Any, values: Any, step: Any, last: Any, turns: Any, found: Any
) -> None:
    """Adds the weighted values of some keys, 32 numbers of each, to 32 sums in the order of
    scores.SPREAD.

    Values are `step` bytes apart; those after the key number `last` have no weight. A turn is
    `TURNS` words of weights, each of two keys.
    """
    parts = [range(start, start + WIDTH) for start in range(0, LANES, WIDTH)] * 2
    held = [_zeros(lanes, len(parts)) for _ in range(TURNS)]
    with cgutils.for_range(lanes.builder, turns) as loop:
        word = lanes.mul(loop.index, LONG(TURNS))
        # Words 0 to 15 are of keys 0 to 31, words 16 to 31 of keys 32 to 63.
        key = lanes.add(word, lanes.and_(word, LONG(-LANES)))
        for turn, places in enumerate(held):
            pair = [
                _place(lanes, values, step, lanes.add(key, LONG(offset)), last)
                for offset in (turn, LANES + turn)
            ]
            at = lanes.add(weights, lanes.mul(LONG(4), lanes.add(word, LONG(turn))))
            weight = spread(lanes, at, BRAIN_PAIRS)
            mixed = [lanes.bitcast(both, WORDS) for both in interleaved(lanes, *pair)]
            for index, (part, sums) in enumerate(zip(parts, places, strict=True)):
                both = mixed[2 * index // len(parts)]
                mask = ir.Constant(ir.VectorType(WORD, WIDTH), list(part))
                words = lanes.shuffle_vector(both, both, mask)
                lanes.store(BRAIN_PAIRS.add(lanes, lanes.load(sums), weight, words), sums)
    for index in range(len(parts)):
        total = lanes.joined([lanes.load(places[index]) for places in held], lanes.fadd)
        old = lanes.get(found, BRAIN_PAIRS.sums, VECTOR * index)
        lanes.put(lanes.fadd(old, total), found, VECTOR * index)


if IN_USE.has_bfloat16:
    _replace, _gather = _weigh_pairs, _gather_pairs
else:
    _replace, _gather = weigh, _gather_floats
