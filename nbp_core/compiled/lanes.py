"""Sixteen numbers at once, for compiled loops of which LLVM makes no vectors: short ones inside of
others. Numbers lie at addresses, in float32 unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, Final

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbp_core.compiled.numbers import LEAST, LN_2_HIGH, LN_2_LOW, LOG2_E, SERIES

LANES: Final = 16
AT_ONCE, COLUMNS = (8, 32) if torch.backends.cpu.get_cpu_capability() == "AVX512" else (4, 16)
"""Rows and columns of a product whose sums fit the registers."""
_WORD, _LONG = ir.IntType(32), ir.IntType(64)
_HALVES, _WORDS = ir.VectorType(ir.IntType(16), LANES), ir.VectorType(_WORD, LANES)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_HALF_FLOATS = ir.VectorType(ir.HalfType(), LANES)


class _Lanes:
    """Writes what is done with vectors."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.builder, name)

    def place(self, address: Any, kind: ir.VectorType, offset: int) -> Any:
        return self.inttoptr(self.add(address, _LONG(offset)), ir.PointerType(kind))

    def get(self, address: Any, kind: ir.VectorType = _FLOATS, offset: int = 0) -> Any:
        return self.load(self.place(address, kind, offset), align=2)

    def put(self, value: Any, address: Any, offset: int = 0) -> None:
        self.store(value, self.place(address, value.type, offset), align=2)

    def all(self, value: Any) -> Any:
        """One number in every lane."""
        first = self.insert_element(ir.Constant(_FLOATS, ir.Undefined), value, _WORD(0))
        return self.shuffle_vector(first, first, _each(_WORDS, 0))

    def number(self, address: Any) -> Any:
        """That at an address, in every lane."""
        return self.all(self.load(self.inttoptr(address, ir.PointerType(ir.FloatType())), align=4))

    def larger(self, a: Any, b: Any) -> Any:
        return self.select(self.fcmp_ordered(">", a, b), a, b)

    def called(self, name: str, *values: Any) -> Any:
        """An operation of LLVM on vectors of one kind."""
        kind = ir.FunctionType(_FLOATS, [_FLOATS] * len(values))
        return self.call(cgutils.get_or_insert_function(self.module, kind, name), values)

    def fused(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c."""
        return self.called("llvm.fma.v16f32", a, b, c)

    def exp(self, x: Any) -> Any:
        """As numbers.exp."""
        x = self.larger(x, _each(_FLOATS, LEAST))
        turns = self.fused(x, _each(_FLOATS, LOG2_E), _each(_FLOATS, 0.5))
        whole = self.called("llvm.floor.v16f32", turns)
        rest = self.fused(whole, _each(_FLOATS, -LN_2_HIGH), x)
        rest = self.fused(whole, _each(_FLOATS, -LN_2_LOW), rest)
        series = _each(_FLOATS, SERIES[0])
        for factor in SERIES[1:]:
            series = self.fused(series, rest, _each(_FLOATS, factor))
        series = self.fused(self.fmul(series, rest), rest, rest)
        series = self.fadd(series, _each(_FLOATS, 1.0))
        power = self.add(self.fptosi(whole, _WORDS), _each(_WORDS, 127))
        return self.fmul(series, self.bitcast(self.shl(power, _each(_WORDS, 23)), _FLOATS))

    def half(self, value: Any) -> Any:
        """Words with the bits of the nearest bfloat16, the even one of two."""
        bits = self.bitcast(value, _WORDS)
        odd = self.and_(self.lshr(bits, _each(_WORDS, 16)), _each(_WORDS, 1))
        rounded = self.add(self.add(bits, _each(_WORDS, 0x7FFF)), odd)
        return self.lshr(rounded, _each(_WORDS, 16))


def _each(kind: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(kind, [value] * LANES)


def _written(write: Callable[..., None], *operands: Any) -> Any:
    """Typing of a function of such operands, and what writes it: (lanes, *values)."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        write(_Lanes(builder), *values)
        return context.get_dummy_value()

    return types.void(*operands), generate


@intrinsic
def keep_larger(context: Any, numbers: Any, largest: Any) -> Any:
    """The larger of each two, to `largest`."""

    def write(lanes: _Lanes, numbers: Any, largest: Any) -> None:
        lanes.put(lanes.larger(lanes.get(numbers), lanes.get(largest)), largest)

    return _written(write, types.int64, types.int64)


@intrinsic
def weigh_two(
    context: Any, scores: Any, largest: Any, sharpness: Any, sums: Any, words: Any
) -> Any:
    """exp of (scores - largest) * sharpness for two rows of scores: added to the sums, and side by
    side as bfloat16, the first row's in the lower half of each word."""

    def write(lanes: _Lanes, scores: Any, largest: Any, factor: Any, sums: Any, words: Any) -> None:
        most, factors = lanes.get(largest), lanes.all(factor)
        first, second = (
            lanes.exp(lanes.fmul(lanes.fsub(lanes.get(scores, offset=offset), most), factors))
            for offset in (0, 4 * LANES)
        )
        lanes.put(lanes.fadd(lanes.get(sums), lanes.fadd(first, second)), sums)
        upper = lanes.shl(lanes.half(second), _each(_WORDS, 16))
        lanes.put(lanes.or_(lanes.half(first), upper), words)

    return _written(write, types.int64, types.int64, types.float32, types.int64, types.int64)


@intrinsic
def weigh(context: Any, scores: Any, largest: Any, sharpness: Any, sums: Any) -> Any:
    """exp of (scores - largest) * sharpness, in their place, and added to the sums."""

    def write(lanes: _Lanes, scores: Any, largest: Any, factor: Any, sums: Any) -> None:
        below = lanes.fsub(lanes.get(scores), lanes.get(largest))
        weights = lanes.exp(lanes.fmul(below, lanes.all(factor)))
        lanes.put(weights, scores)
        lanes.put(lanes.fadd(lanes.get(sums), weights), sums)

    return _written(write, types.int64, types.int64, types.float32, types.int64)


@intrinsic
def side_by_side(context: Any, lower: Any, upper: Any, words: Any) -> Any:
    """Words with bfloat16 of two rows in their halves."""

    def write(lanes: _Lanes, lower: Any, upper: Any, words: Any) -> None:
        low, high = (lanes.zext(lanes.get(at, _HALVES), _WORDS) for at in (lower, upper))
        lanes.put(lanes.or_(low, lanes.shl(high, _each(_WORDS, 16))), words)

    return _written(write, types.int64, types.int64, types.int64)


@intrinsic
def add_lanes(context: Any, numbers: Any, target: Any) -> Any:
    """numbers + target, to target."""

    def write(lanes: _Lanes, numbers: Any, target: Any) -> None:
        lanes.put(lanes.fadd(lanes.get(numbers), lanes.get(target)), target)

    return _written(write, types.int64, types.int64)


@intrinsic
def scale_lanes(context: Any, whole: Any, scales: Any, factor: Any) -> Any:
    """Whole numbers (int32) * scales * factor, in their place."""

    def write(lanes: _Lanes, whole: Any, scales: Any, factor: Any) -> None:
        numbers = lanes.sitofp(lanes.get(whole, _WORDS), _FLOATS)
        sizes = lanes.fmul(lanes.get(scales), lanes.all(factor))
        lanes.put(lanes.fmul(numbers, sizes), whole)

    return _written(write, types.int64, types.int64, types.float32)


@intrinsic
def copy_lanes(context: Any, numbers: Any, target: Any) -> Any:
    """As they are, to target."""

    def write(lanes: _Lanes, numbers: Any, target: Any) -> None:
        lanes.put(lanes.get(numbers), target)

    return _written(write, types.int64, types.int64)


@intrinsic
def round_lanes(context: Any, numbers: Any, target: Any) -> Any:
    """As bfloat16, to target."""

    def write(lanes: _Lanes, numbers: Any, target: Any) -> None:
        lanes.put(lanes.trunc(lanes.half(lanes.get(numbers)), _HALVES), target)

    return _written(write, types.int64, types.int64)


def _sums_of(num_rows: int, num_columns: int, is_half: bool) -> Any:
    """A function that sums up products of some rows with some columns side by side:
    sums[r, c] = sum of x[r, k] * weights[k, c] over `count` k. Steps are in bytes; weights are
    float16 or float32."""
    kind = _HALF_FLOATS if is_half else _FLOATS
    item = 2 if is_half else 4

    @intrinsic
    def sums_of(
        context: Any, x: Any, x_row: Any, x_k: Any, weights: Any, weights_k: Any, count: Any,
        sums: Any, sums_row: Any,
    ) -> Any:  # fmt: skip
        def write(lanes: _Lanes, x: Any, x_row: Any, x_k: Any, weights: Any, weights_k: Any,
                  count: Any, sums: Any, sums_row: Any) -> None:  # fmt: skip
            held = [
                [cgutils.alloca_once(lanes.builder, _FLOATS) for _ in range(0, num_columns, LANES)]
                for _ in range(num_rows)
            ]
            for place in chain.from_iterable(held):
                lanes.store(_each(_FLOATS, 0.0), place)
            with cgutils.for_range(lanes.builder, count) as loop:
                at = lanes.add(weights, lanes.mul(loop.index, weights_k))
                columns = [
                    lanes.get(at, kind, item * column) for column in range(0, num_columns, LANES)
                ]
                if is_half:
                    columns = [lanes.fpext(column, _FLOATS) for column in columns]
                at = lanes.add(x, lanes.mul(loop.index, x_k))
                for row, places in enumerate(held):
                    number = lanes.number(lanes.add(at, lanes.mul(x_row, _LONG(row))))
                    for column, place in zip(columns, places, strict=True):
                        lanes.store(lanes.fused(number, column, lanes.load(place)), place)
            for row, places in enumerate(held):
                at = lanes.add(sums, lanes.mul(sums_row, _LONG(row)))
                for column, place in enumerate(places):
                    lanes.put(lanes.load(place), at, 4 * LANES * column)

        return _written(write, *[types.int64] * 8)

    return sums_of


sum_rows, sum_row = _sums_of(AT_ONCE, COLUMNS, True), _sums_of(1, COLUMNS, True)
"""Of rows with weights: AT_ONCE of them, or one."""
score_rows, score_row = _sums_of(AT_ONCE, LANES, False), _sums_of(1, LANES, False)
"""Of keys with 16 queries."""
gather_rows, gather_row = _sums_of(AT_ONCE, COLUMNS, False), _sums_of(1, COLUMNS, False)
"""Of queries' weights with values."""
