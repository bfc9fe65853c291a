"""Sixteen numbers at once, for compiled loops of which LLVM makes no vectors: short ones inside of
others. Numbers lie at addresses, in float32 unless it says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbp_core.packed.kernels.jobs import LEVELS, LINE
from nbp_core.packed.kernels.numbers import LEAST, LN_2_HIGH, LN_2_LOW, LOG2_E, SERIES

LANES: Final = 16
AT_ONCE, COLUMNS = (8, 32) if torch.backends.cpu.get_cpu_capability() == "AVX512" else (4, 16)
"""Rows and columns of a product whose sums fit the registers."""
WORD, LONG = ir.IntType(32), ir.IntType(64)
HALVES, WORDS = ir.VectorType(ir.IntType(16), LANES), ir.VectorType(WORD, LANES)
FLOATS = ir.VectorType(ir.FloatType(), LANES)
_LINE, _PAIRS = ir.VectorType(ir.IntType(8), LINE), ir.VectorType(ir.IntType(16), LINE // 2)
_HALF_FLOATS = ir.VectorType(ir.HalfType(), LANES)
ROW: Final = 4 * LANES
"""Bytes of sixteen numbers."""
POWER_SERIES: Final = (0.0551716517, 0.242611140, 0.693260990, 0.999928073)
"""2 ** x from -0.5 to 0.5, to 7.5e-5 of it."""


class Lanes:
    """Writes what is done with vectors."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def __getattr__(self, name: str) -> Any:
        return getattr(self.builder, name)

    def place(self, address: Any, kind: ir.VectorType, offset: int) -> Any:
        return self.inttoptr(self.add(address, LONG(offset)), ir.PointerType(kind))

    def get(self, address: Any, kind: ir.VectorType = FLOATS, offset: int = 0) -> Any:
        return self.load(self.place(address, kind, offset), align=2)

    def put(self, value: Any, address: Any, offset: int = 0) -> None:
        self.store(value, self.place(address, value.type, offset), align=2)

    def all(self, value: Any) -> Any:
        """One number in every lane."""
        first = self.insert_element(ir.Constant(FLOATS, ir.Undefined), value, WORD(0))
        return self.shuffle_vector(first, first, each(WORDS, 0))

    def number(self, address: Any) -> Any:
        """That at an address, in every lane."""
        return self.all(self.load(self.inttoptr(address, ir.PointerType(ir.FloatType())), align=4))

    def larger(self, a: Any, b: Any) -> Any:
        return self.select(self.fcmp_ordered(">", a, b), a, b)

    def by_turns(self, count: Any, num_turns: int, write: Callable[[Any, int], None]) -> None:
        """A loop that writes what is done with each index below a count, and whose turn it is: what
        the turns do waits for nothing of each other."""
        rounds = self.udiv(count, LONG(num_turns))
        with cgutils.for_range(self.builder, rounds) as loop:
            first = self.mul(loop.index, LONG(num_turns))
            for turn in range(num_turns):
                write(self.add(first, LONG(turn)), turn)
        done = self.mul(rounds, LONG(num_turns))
        with cgutils.for_range(self.builder, count, done) as loop:
            write(loop.index, 0)

    def places(self, count: int, value: float) -> list[Any]:
        """Of so many vectors, with that in every lane."""
        found = [cgutils.alloca_once(self.builder, FLOATS) for _ in range(count)]
        for place in found:
            self.store(each(FLOATS, value), place)
        return found

    def joined(self, values: list[Any], join: Callable[[Any, Any], Any]) -> Any:
        """What 2, 4, 8, ... of them make by twos."""
        while len(values) > 1:
            values = [join(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
        return values[0]

    def called(self, name: str, *values: Any) -> Any:
        """An operation of LLVM on vectors of one kind."""
        kind = ir.FunctionType(FLOATS, [FLOATS] * len(values))
        return self.call(cgutils.get_or_insert_function(self.module, kind, name), values)

    def fused(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c."""
        return self.called("llvm.fma.v16f32", a, b, c)

    def exp(self, x: Any) -> Any:
        """As numbers.exp."""
        x = self.larger(x, each(FLOATS, LEAST))
        turns = self.fused(x, each(FLOATS, LOG2_E), each(FLOATS, 0.5))
        whole = self.called("llvm.floor.v16f32", turns)
        rest = self.fused(whole, each(FLOATS, -LN_2_HIGH), x)
        rest = self.fused(whole, each(FLOATS, -LN_2_LOW), rest)
        series = each(FLOATS, SERIES[0])
        for factor in SERIES[1:]:
            series = self.fused(series, rest, each(FLOATS, factor))
        series = self.fused(self.fmul(series, rest), rest, rest)
        series = self.fadd(series, each(FLOATS, 1.0))
        power = self.add(self.fptosi(whole, WORDS), each(WORDS, 127))
        return self.fmul(series, self.bitcast(self.shl(power, each(WORDS, 23)), FLOATS))

    def power_of_two(self, x: Any) -> Any:
        """2 ** x of what is not above 100, to a ten-thousandth: enough for a bfloat16."""
        x = self.larger(x, each(FLOATS, -126.0))
        # So large a number leaves no bits for fractions: whole numbers are its last ones.
        shifted = self.bitcast(self.fadd(x, each(FLOATS, 12582912.0)), WORDS)
        whole = self.sub(shifted, each(WORDS, 0x4B400000))
        rest = self.fsub(x, self.sitofp(whole, FLOATS))
        series = each(FLOATS, POWER_SERIES[0])
        for factor in POWER_SERIES[1:]:
            series = self.fused(series, rest, each(FLOATS, factor))
        power = self.shl(whole, each(WORDS, 23))
        return self.bitcast(self.add(self.bitcast(series, WORDS), power), FLOATS)

    def half(self, value: Any) -> Any:
        """Words with the bits of the nearest bfloat16, the even one of two."""
        bits = self.bitcast(value, WORDS)
        odd = self.and_(self.lshr(bits, each(WORDS, 16)), each(WORDS, 1))
        rounded = self.add(self.add(bits, each(WORDS, 0x7FFF)), odd)
        return self.lshr(rounded, each(WORDS, 16))


def each(kind: ir.VectorType, value: float) -> ir.Constant:
    """A number in every lane."""
    return ir.Constant(kind, [value] * LANES)


def operation(write: Callable[..., None], *operands: Any) -> Any:
    """Typing of a function of such operands, and what writes it: (lanes, *values)."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        write(Lanes(builder), *values)
        return context.get_dummy_value()

    return types.void(*operands), generate


@intrinsic
def add_lanes(context: Any, numbers: Any, target: Any) -> Any:
    """numbers + target, to target."""

    def write(lanes: Lanes, numbers: Any, target: Any) -> None:
        lanes.put(lanes.fadd(lanes.get(numbers), lanes.get(target)), target)

    return operation(write, types.int64, types.int64)


@intrinsic
def scale_lanes(context: Any, whole: Any, scales: Any, factor: Any) -> Any:
    """Whole numbers (int32) * scales * factor, in their place."""

    def write(lanes: Lanes, whole: Any, scales: Any, factor: Any) -> None:
        numbers = lanes.sitofp(lanes.get(whole, WORDS), FLOATS)
        sizes = lanes.fmul(lanes.get(scales), lanes.all(factor))
        lanes.put(lanes.fmul(numbers, sizes), whole)

    return operation(write, types.int64, types.int64, types.float32)


@intrinsic
def copy_lanes(context: Any, numbers: Any, target: Any) -> Any:
    """As they are, to target."""

    def write(lanes: Lanes, numbers: Any, target: Any) -> None:
        lanes.put(lanes.get(numbers), target)

    return operation(write, types.int64, types.int64)


@intrinsic
def round_lanes(context: Any, numbers: Any, target: Any) -> Any:
    """As bfloat16, to target."""

    def write(lanes: Lanes, numbers: Any, target: Any) -> None:
        lanes.put(lanes.trunc(lanes.half(lanes.get(numbers)), HALVES), target)

    return operation(write, types.int64, types.int64)


@intrinsic
def unpack(context: Any, packed: Any, count: Any, target: Any) -> Any:
    """`count` lines of nibbles -> twice as many of int8, by `LEVELS`: of each line first what its
    bytes have in their lower halves."""

    def write(lanes: Lanes, packed: Any, count: Any, target: Any) -> None:
        levels = ir.Constant(_LINE, [level & 0xFF for level in LEVELS] * (LINE // len(LEVELS)))
        lower, four = ir.Constant(_LINE, [0x0F] * LINE), ir.Constant(_PAIRS, [4] * (LINE // 2))
        kind = ir.FunctionType(_LINE, [_LINE, _LINE])
        name = "llvm.x86.avx512.pshuf.b.512"
        look_up = cgutils.get_or_insert_function(lanes.module, kind, name)
        with cgutils.for_range(lanes.builder, count) as loop:
            at = lanes.mul(loop.index, LONG(LINE))
            both = lanes.get(lanes.add(packed, at), _LINE)
            shifted = lanes.bitcast(lanes.lshr(lanes.bitcast(both, _PAIRS), four), _LINE)
            into = lanes.add(target, lanes.add(at, at))
            for offset, half in ((0, both), (LINE, shifted)):
                lanes.put(lanes.call(look_up, [levels, lanes.and_(half, lower)]), into, offset)

    return operation(write, types.int64, types.int64, types.int64)


def _sums_of(num_rows: int, num_columns: int, is_half: bool) -> Any:
    """A function that sums up products of some rows with some columns side by side:
    sums[r, c] = sum of x[r, k] * weights[k, c] over `count` k. Steps are in bytes; weights are
    float16 or float32."""
    kind = _HALF_FLOATS if is_half else FLOATS
    item = 2 if is_half else 4

    @intrinsic
    def sums_of(
        context: Any, x: Any, x_row: Any, x_k: Any, weights: Any, weights_k: Any, count: Any,
        sums: Any, sums_row: Any,
    ) -> Any:  # fmt: skip
        def write(lanes: Lanes, x: Any, x_row: Any, x_k: Any, weights: Any, weights_k: Any,
                  count: Any, sums: Any, sums_row: Any) -> None:  # fmt: skip
            # Of one row alone, each addition would wait for the one before it; with four turns, the
            # code for other rows gets slower.
            num_turns = 1 if num_rows > 1 else 2
            held = [
                [lanes.places(num_turns, 0.0) for _ in range(0, num_columns, LANES)]
                for _ in range(num_rows)
            ]

            def add(index: Any, turn: int) -> None:
                at = lanes.add(weights, lanes.mul(index, weights_k))
                columns = [
                    lanes.get(at, kind, item * column) for column in range(0, num_columns, LANES)
                ]
                if is_half:
                    columns = [lanes.fpext(column, FLOATS) for column in columns]
                at = lanes.add(x, lanes.mul(index, x_k))
                for row, of_row in enumerate(held):
                    number = lanes.number(lanes.add(at, lanes.mul(x_row, LONG(row))))
                    for column, places in zip(columns, of_row, strict=True):
                        total = lanes.load(places[turn])
                        lanes.store(lanes.fused(number, column, total), places[turn])

            lanes.by_turns(count, num_turns, add)
            for row, of_row in enumerate(held):
                at = lanes.add(sums, lanes.mul(sums_row, LONG(row)))
                for column, places in enumerate(of_row):
                    total = lanes.joined([lanes.load(place) for place in places], lanes.fadd)
                    lanes.put(total, at, 4 * LANES * column)

        return operation(write, *[types.int64] * 8)

    return sums_of


sum_rows, sum_row = _sums_of(AT_ONCE, COLUMNS, True), _sums_of(1, COLUMNS, True)
"""Of rows with weights: AT_ONCE of them, or one."""
score_rows, score_row = _sums_of(AT_ONCE, LANES, False), _sums_of(1, LANES, False)
"""Of keys with 16 queries."""
gather_rows, gather_row = _sums_of(AT_ONCE, COLUMNS, False), _sums_of(1, COLUMNS, False)
"""Of queries' weights with values."""
