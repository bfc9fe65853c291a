"""What attention does to sixteen queries' scores and to rows of values, in lanes.

Numbers lie at addresses, in float32 unless it says otherwise.
"""

from __future__ import annotations

from itertools import chain
from typing import Any, Final

from llvmlite import ir
from numba import carray, float32, int64, njit, types
from numba.extending import intrinsic

from nbp_core.packed.kernels.instructions import pointer
from nbp_core.packed.kernels.jobs import COMPILED
from nbp_core.packed.kernels.simd.lanes import (
    HALVES,
    LANES,
    LONG,
    ROW,
    WORD,
    WORDS,
    Lanes,
    each,
    operation,
)

_PAIR_OF_HALVES = ir.VectorType(ir.IntType(16), 2 * LANES)
SPREAD: Final = [8 * (i // 4) + i % 4 + half for half in (0, 4) for i in range(LANES)]
"""Which of 32 numbers two vectors hold once rows of halves were woven into each other: that is
cheapest if it stays within sixteen bytes."""


@njit(**COMPILED)
def hide(scores, rows, num_keys, reach):
    """Leaves out keys, which are rows of scores, that queries do not see: `reach` is the address of
    how many each sees, or 0."""
    if reach:
        reaches = carray(pointer(reach), rows, int64)
        for key in range(reaches[0], num_keys):
            of_key = carray(pointer(scores + ROW * key), LANES, float32)
            for row in range(rows):
                if key >= reaches[row]:
                    of_key[row] = float32(-1e30)


@intrinsic
def find_largest(context: Any, numbers: Any, count: Any, largest: Any) -> Any:
    """The largest of `count` rows of numbers, lane by lane, to `largest`."""

    def write(lanes: Lanes, numbers: Any, count: Any, largest: Any) -> None:
        # One after the other, each would wait for the one before it.
        held = lanes.places(4, -1e30)

        def compare(index: Any, turn: int) -> None:
            row = lanes.get(lanes.add(numbers, lanes.mul(index, LONG(ROW))))
            lanes.store(lanes.larger(row, lanes.load(held[turn])), held[turn])

        lanes.by_turns(count, len(held), compare)
        lanes.put(lanes.joined([lanes.load(place) for place in held], lanes.larger), largest)

    return operation(write, types.int64, types.int64, types.int64)


@intrinsic
def weigh_eight(
    context: Any, scores: Any, largest: Any, sharpness: Any, sums: Any, words: Any
) -> Any:
    """2 ** ((scores - largest) * sharpness) for eight rows of scores: added to the sums, and by
    twos side by side as bfloat16, the first row's in the lower half of each word."""

    def write(lanes: Lanes, scores: Any, largest: Any, factor: Any, sums: Any, words: Any) -> None:
        factors = lanes.all(factor)
        most = lanes.fmul(lanes.get(largest), factors)
        weights = [
            lanes.power_of_two(lanes.fsub(lanes.fmul(lanes.get(scores, offset=at), factors), most))
            for at in range(0, 8 * ROW, ROW)
        ]
        for pair in range(4):
            # To the nearest: none is so large that this runs over.
            low, high = (
                lanes.add(lanes.bitcast(value, WORDS), each(WORDS, 0x8000))
                for value in weights[2 * pair : 2 * pair + 2]
            )
            upper = lanes.and_(high, each(WORDS, 0xFFFF0000))
            lanes.put(lanes.or_(lanes.lshr(low, each(WORDS, 16)), upper), words, ROW * pair)
        lanes.put(lanes.fadd(lanes.get(sums), lanes.joined(weights, lanes.fadd)), sums)

    return operation(write, types.int64, types.int64, types.float32, types.int64, types.int64)


@intrinsic
def weigh(context: Any, scores: Any, count: Any, largest: Any, sharpness: Any, sums: Any) -> Any:
    """exp of (scores - largest) * sharpness for `count` rows of scores, in their place; their
    sums."""

    def write(lanes: Lanes, scores: Any, count: Any, largest: Any, factor: Any, sums: Any) -> None:
        held = lanes.places(4, 0.0)
        most, factors = lanes.get(largest), lanes.all(factor)

        def weigh_row(index: Any, turn: int) -> None:
            at = lanes.add(scores, lanes.mul(index, LONG(ROW)))
            weights = lanes.exp(lanes.fmul(lanes.fsub(lanes.get(at), most), factors))
            lanes.put(weights, at)
            lanes.store(lanes.fadd(lanes.load(held[turn]), weights), held[turn])

        lanes.by_turns(count, len(held), weigh_row)
        lanes.put(lanes.joined([lanes.load(place) for place in held], lanes.fadd), sums)

    return operation(write, types.int64, types.int64, types.int64, types.float32, types.int64)


@intrinsic
def interleave(context: Any, lower: Any, upper: Any, words: Any) -> Any:
    """Words with bfloat16 of two rows of 32 in their halves, in the order of `SPREAD`."""

    def write(lanes: Lanes, lower: Any, upper: Any, words: Any) -> None:
        low, high = lanes.get(lower, _PAIR_OF_HALVES), lanes.get(upper, _PAIR_OF_HALVES)
        for index in range(2):
            places = SPREAD[index * LANES : (index + 1) * LANES]
            order = chain.from_iterable((place, 2 * LANES + place) for place in places)
            mask = ir.Constant(ir.VectorType(WORD, 2 * LANES), list(order))
            lanes.put(lanes.shuffle_vector(low, high, mask), words, ROW * index)

    return operation(write, types.int64, types.int64, types.int64)


@intrinsic
def gather_halves(context: Any, numbers: Any, factor: Any, target: Any) -> Any:
    """32 numbers in the order of `SPREAD`, times a factor, as bfloat16 in their own order."""

    def write(lanes: Lanes, numbers: Any, factor: Any, target: Any) -> None:
        first, second = (lanes.get(numbers, offset=at) for at in (0, ROW))
        for start in (0, LANES):
            order = [SPREAD.index(place) for place in range(start, start + LANES)]
            mask = ir.Constant(WORDS, order)
            mixed = lanes.fmul(lanes.shuffle_vector(first, second, mask), lanes.all(factor))
            lanes.put(lanes.trunc(lanes.half(mixed), HALVES), target, 2 * start)

    return operation(write, types.int64, types.float32, types.int64)
