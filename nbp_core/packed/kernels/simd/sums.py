"""Sums of many numbers in one order, which is written here: what is compiled may not choose it.

float32 at addresses, a multiple of 16 of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbp_core.packed.kernels.simd.lanes import FLOATS, LANES, LONG, ROW, WORDS, Lanes, each

_AT_ONCE: Final = 4
"""Running sums: one after the other, additions would wait for each other."""


def _sum(term: Callable[[Lanes, Any, Any], Any]) -> Any:
    """A function (numbers, count, other) that sums up the terms of numbers and one other number;
    `term` writes sixteen of them."""

    @intrinsic
    def sum_terms(context: Any, numbers: Any, count: Any, other: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            lanes = Lanes(builder)
            at, size, number = values
            others, held = lanes.all(number), lanes.places(_AT_ONCE, 0.0)

            def add(index: Any, turn: int) -> None:
                row = lanes.get(lanes.add(at, lanes.mul(index, LONG(ROW))))
                total = lanes.fadd(lanes.load(held[turn]), term(lanes, row, others))
                lanes.store(total, held[turn])

            lanes.by_turns(lanes.udiv(size, LONG(LANES)), _AT_ONCE, add)
            total = lanes.joined([lanes.load(place) for place in held], lanes.fadd)
            for half in (8, 4, 2, 1):
                order = ir.Constant(WORDS, [(i + half) % LANES for i in range(LANES)])
                total = lanes.fadd(total, lanes.shuffle_vector(total, total, order))
            return lanes.extract_element(total, ir.IntType(32)(0))

        return types.float32(types.int64, types.int64, types.float32), generate

    return sum_terms


def _square(lanes: Lanes, row: Any, mean: Any) -> Any:
    apart = lanes.fsub(row, mean)
    return lanes.fmul(apart, apart)


def _if_above(lanes: Lanes, row: Any, limit: Any) -> Any:
    return lanes.select(lanes.fcmp_ordered(">", row, limit), row, each(FLOATS, 0.0))


sum_apart = _sum(lambda lanes, row, mean: lanes.fsub(row, mean))
"""Of how far they are from a number,"""
sum_squares = _sum(_square)
"""of its squares,"""
sum_above = _sum(_if_above)
"""of those above a number."""
