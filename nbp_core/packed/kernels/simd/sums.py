"""Sums of many numbers in a fixed order, so that every compilation rounds them alike.

Arguments are addresses of float32; their number is a multiple of sixteen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir
from numba import types

from nbp_core.packed.kernels.simd.lanes import FLOATS, LANES, LONG, ROW, WORDS, Lanes, each, vectors

_AT_ONCE: Final = 4
"""Number of running sums. With one, each addition would wait for the one before it."""


def _sum(term: Callable[[Lanes, Any, Any], Any]) -> Any:
    """Returns a function (numbers, count, other) that sums up term(number, other) over all
    numbers; `term` computes sixteen at a time."""

    @vectors(types.int64, types.int64, types.float32, result=types.float32)
    def sum_terms(lanes: Lanes, numbers: Any, count: Any, other: Any) -> Any:
        others, held = lanes.all(other), lanes.places(_AT_ONCE, 0.0)

        def add(index: Any, turn: int) -> None:
            row = lanes.get(lanes.add(numbers, lanes.mul(index, LONG(ROW))))
            total = lanes.fadd(lanes.load(held[turn]), term(lanes, row, others))
            lanes.store(total, held[turn])

        lanes.by_turns(lanes.udiv(count, LONG(LANES)), _AT_ONCE, add)
        total = lanes.joined([lanes.load(place) for place in held], lanes.fadd)
        for half in (8, 4, 2, 1):
            order = ir.Constant(WORDS, [(i + half) % LANES for i in range(LANES)])
            total = lanes.fadd(total, lanes.shuffle_vector(total, total, order))
        return lanes.extract_element(total, ir.IntType(32)(0))

    return sum_terms


def _square(lanes: Lanes, row: Any, mean: Any) -> Any:
    apart = lanes.fsub(row, mean)
    return lanes.fmul(apart, apart)


def _if_above(lanes: Lanes, row: Any, limit: Any) -> Any:
    return lanes.select(lanes.fcmp_ordered(">", row, limit), row, each(FLOATS, 0.0))


sum_apart = _sum(lambda lanes, row, mean: lanes.fsub(row, mean))
"""Sum of numbers - other."""
sum_squares = _sum(_square)
"""Sum of (numbers - other) ** 2."""
sum_above = _sum(_if_above)
"""Sum of the numbers above other."""
