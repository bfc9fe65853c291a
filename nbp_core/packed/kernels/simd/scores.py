"""Vector operations of attention: on the scores of sixteen queries and on rows of values.

Arguments are addresses of float32, unless the function says otherwise. A row of scores belongs to
one key and holds one score for each of the sixteen queries.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

from llvmlite import ir
from numba import carray, float32, int32, int64, njit, types

from nbp_core.packed.kernels.instructions import pointer, transpose_words
from nbp_core.packed.kernels.jobs import COMPILED, LINE
from nbp_core.packed.kernels.simd.lanes import (
    HALVES,
    LANES,
    LONG,
    ROW,
    WORD,
    WORDS,
    Lanes,
    each,
    vectors,
)

_PAIR_OF_HALVES = ir.VectorType(ir.IntType(16), 2 * LANES)
SPREAD: Final = [8 * (i // 4) + i % 4 + half for half in (0, 4) for i in range(LANES)]
"""The order of 32 numbers in two vectors after two rows of bfloat16 are interleaved. Shuffles
within sixteen bytes are the cheapest, hence not the plain order."""
HIDDEN: Final = -1e30
"""The score of a key that a query does not see."""


@njit(**COMPILED)
def arrange_queries(queries, rows, width, stage, target):
    """Transposes up to sixteen queries of bfloat16: each pair of numbers becomes a row of sixteen
    words. Missing queries are zero. `stage` is the address of one block of 16 x 16 words.
    """
    words = carray(pointer(stage), (LANES, LANES), int32)
    for part in range(width // (2 * LANES)):
        for row in range(LANES):
            source = carray(pointer(queries + 2 * width * row + LINE * part), LANES, int32)
            for i in range(LANES):
                words[row, i] = source[i] if row < rows else int32(0)
        transpose_words(stage, target + LANES * LINE * part)


@njit(**COMPILED)
def start_weights(scores, num_keys, padded, largest, sums):
    """Hides the scores from num_keys to padded, finds the largest of each query and sets the sums
    of weights to zero."""
    past = carray(pointer(scores + ROW * num_keys), (padded - num_keys) * LANES, float32)
    for i in range((padded - num_keys) * LANES):
        past[i] = float32(HIDDEN)
    find_largest(scores, padded, largest)
    totals = carray(pointer(sums), LANES, float32)
    for query in range(LANES):
        totals[query] = float32(0.0)


@njit(**COMPILED)
def hide(scores, rows, num_keys, reach):
    """Hides the keys that a query does not see. `reach` is the address of the number of keys that
    each query sees (int64), or 0 if all see all."""
    if reach:
        reaches = carray(pointer(reach), rows, int64)
        for key in range(reaches[0], num_keys):
            of_key = carray(pointer(scores + ROW * key), LANES, float32)
            for row in range(rows):
                if key >= reaches[row]:
                    of_key[row] = float32(HIDDEN)


@vectors(types.int64, types.int64, types.int64)
def find_largest(lanes: Lanes, numbers: Any, count: Any, largest: Any) -> None:
    """Writes the maximum of each lane over `count` rows to `largest`."""
    # With one running maximum, each comparison would wait for the one before it.
    held = lanes.places(4, HIDDEN)

    def compare(index: Any, turn: int) -> None:
        row = lanes.get(lanes.add(numbers, lanes.mul(index, LONG(ROW))))
        lanes.store(lanes.larger(row, lanes.load(held[turn])), held[turn])

    lanes.by_turns(count, len(held), compare)
    lanes.put(lanes.joined([lanes.load(place) for place in held], lanes.larger), largest)


@vectors(types.int64, types.int64, types.float32, types.int64, types.int64)
def weigh_eight(
    lanes: Lanes, scores: Any, largest: Any, sharpness: Any, sums: Any, words: Any
) -> None:
    """Computes the weights 2 ** ((scores - largest) * sharpness) of eight rows of scores.

    They are added to the sums. As bfloat16, two rows share one row of words; the first of the two
    is in the lower half of each word.
    """
    factors = lanes.all(sharpness)
    most = lanes.fmul(lanes.get(largest), factors)
    weights = [
        lanes.power_of_two(lanes.fsub(lanes.fmul(lanes.get(scores, offset=at), factors), most))
        for at in range(0, 8 * ROW, ROW)
    ]
    for pair in range(4):
        # Rounds to the nearest. Weights are at most 1, so this cannot overflow.
        low, high = (
            lanes.add(lanes.bitcast(value, WORDS), each(WORDS, 0x8000))
            for value in weights[2 * pair : 2 * pair + 2]
        )
        upper = lanes.and_(high, each(WORDS, 0xFFFF0000))
        lanes.put(lanes.or_(lanes.lshr(low, each(WORDS, 16)), upper), words, ROW * pair)
    lanes.put(lanes.fadd(lanes.get(sums), lanes.joined(weights, lanes.fadd)), sums)


@vectors(types.int64, types.int64, types.int64, types.float32, types.int64)
def weigh(lanes: Lanes, scores: Any, count: Any, largest: Any, sharpness: Any, sums: Any) -> None:
    """Replaces `count` rows of scores by exp((scores - largest) * sharpness) and writes the sum of
    each lane to `sums`."""
    held = lanes.places(4, 0.0)
    most, factors = lanes.get(largest), lanes.all(sharpness)

    def weigh_row(index: Any, turn: int) -> None:
        at = lanes.add(scores, lanes.mul(index, LONG(ROW)))
        weights = lanes.exp(lanes.fmul(lanes.fsub(lanes.get(at), most), factors))
        lanes.put(weights, at)
        lanes.store(lanes.fadd(lanes.load(held[turn]), weights), held[turn])

    lanes.by_turns(count, len(held), weigh_row)
    lanes.put(lanes.joined([lanes.load(place) for place in held], lanes.fadd), sums)


@vectors(types.int64, types.int64, types.int64)
def interleave(lanes: Lanes, lower: Any, upper: Any, words: Any) -> None:
    """Interleaves two rows of 32 bfloat16: word i has one number of each row, in the order of
    `SPREAD`."""
    for index, value in enumerate(interleaved(lanes, lower, upper)):
        lanes.put(value, words, ROW * index)


def interleaved(lanes: Lanes, lower: Any, upper: Any) -> list[Any]:
    """Emits the two vectors of words that `interleave` writes."""
    low, high = lanes.get(lower, _PAIR_OF_HALVES), lanes.get(upper, _PAIR_OF_HALVES)
    mixed = []
    for index in range(2):
        places = SPREAD[index * LANES : (index + 1) * LANES]
        order = chain.from_iterable((place, 2 * LANES + place) for place in places)
        mask = ir.Constant(ir.VectorType(WORD, 2 * LANES), list(order))
        mixed.append(lanes.shuffle_vector(low, high, mask))
    return mixed


@vectors(types.int64, types.float32, types.int64)
def gather_halves(lanes: Lanes, numbers: Any, factor: Any, target: Any) -> None:
    """Multiplies 32 numbers in the order of `SPREAD` by a factor and writes them as bfloat16 in
    plain order."""
    first, second = (lanes.get(numbers, offset=at) for at in (0, ROW))
    for start in (0, LANES):
        order = [SPREAD.index(place) for place in range(start, start + LANES)]
        mask = ir.Constant(WORDS, order)
        mixed = lanes.fmul(lanes.shuffle_vector(first, second, mask), lanes.all(factor))
        lanes.put(lanes.trunc(lanes.half(mixed), HALVES), target, 2 * start)
