"""Vector operations on sixteen numbers, for short inner loops that LLVM does not vectorise.

Arguments are addresses of float32, unless the function says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, Literal

from llvmlite import ir
from numba import types
from numba.core import cgutils

from nbp_core.packed.kernels.instructions import call_operation, emit_prefetch, operation
from nbp_core.packed.kernels.jobs import LEVELS, LINE, PIECE
from nbp_core.packed.kernels.numbers import (
    IN_USE,
    LEAST,
    LN_2_HIGH,
    LN_2_LOW,
    LOG2_E,
    NUMBER_BYTES,
    SERIES,
)

LANES: Final = 16
WORD, LONG = ir.IntType(32), ir.IntType(64)
HALVES, WORDS = ir.VectorType(ir.IntType(16), LANES), ir.VectorType(WORD, LANES)
FLOATS = ir.VectorType(ir.FloatType(), LANES)
_LOOK_UP = {
    64: "llvm.x86.avx512.pshuf.b.512",
    32: "llvm.x86.avx2.pshuf.b",
    16: "llvm.aarch64.neon.tbl1.v16i8",
}
"""Vector size in bytes -> the operation that looks each byte up in a table of sixteen."""
_HALF_FLOATS = ir.VectorType(ir.HalfType(), LANES)
ROW: Final = 4 * LANES
"""Bytes of sixteen float32."""
POWER_SERIES: Final = (0.0551716517, 0.242611140, 0.693260990, 0.999928073)
"""Polynomial of 2 ** x on [-0.5, 0.5]; the relative error is at most 7.5e-5."""


class Lanes:
    """Emits LLVM instructions on vectors of sixteen numbers."""

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
        """Broadcasts a number to every lane."""
        first = self.insert_element(ir.Constant(FLOATS, ir.Undefined), value, WORD(0))
        return self.shuffle_vector(first, first, each(WORDS, 0))

    def number(self, address: Any) -> Any:
        """Broadcasts the number at an address to every lane."""
        return self.all(self.load(self.inttoptr(address, ir.PointerType(ir.FloatType())), align=4))

    def ask(self, address: Any, line: int = 0) -> None:
        """Prefetches a cache line. Addresses outside of any buffer do no harm."""
        emit_prefetch(self, self.add(address, LONG(LINE * line)))

    def larger(self, a: Any, b: Any) -> Any:
        return self.select(self.fcmp_ordered(">", a, b), a, b)

    def by_turns(self, count: Any, num_turns: int, write: Callable[[Any, int], None]) -> None:
        """Emits a loop over all indices below `count`, unrolled num_turns times.

        write(index, turn) emits the body. Turns that use separate accumulators do not wait for each
        other.
        """
        rounds = self.udiv(count, LONG(num_turns))
        with cgutils.for_range(self.builder, rounds) as loop:
            first = self.mul(loop.index, LONG(num_turns))
            for turn in range(num_turns):
                write(self.add(first, LONG(turn)), turn)
        done = self.mul(rounds, LONG(num_turns))
        with cgutils.for_range(self.builder, count, done) as loop:
            write(loop.index, 0)

    def places(self, count: int, value: float) -> list[Any]:
        """Allocates `count` vectors with `value` in every lane; returns their places."""
        found = [cgutils.alloca_once(self.builder, FLOATS) for _ in range(count)]
        for place in found:
            self.store(each(FLOATS, value), place)
        return found

    def joined(self, values: list[Any], join: Callable[[Any, Any], Any]) -> Any:
        """Reduces 2, 4, 8, ... values to one, pairwise."""
        while len(values) > 1:
            values = [join(a, b) for a, b in zip(values[::2], values[1::2], strict=True)]
        return values[0]

    def called(self, name: str, *values: Any) -> Any:
        """Calls an LLVM intrinsic on float32 vectors."""
        return call_operation(self, name, FLOATS, *values)

    def fused(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, rounded once."""
        return self.called("llvm.fma.v16f32", a, b, c)

    def exp(self, x: Any) -> Any:
        """exp(x), as numbers.exp computes it."""
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
        """2 ** x for x up to 100, to a relative error of 1e-4: enough for a bfloat16."""
        x = self.larger(x, each(FLOATS, -126.0))
        # Adding 1.5 * 2 ** 23 rounds to a whole number, which the lowest bits then hold.
        shifted = self.bitcast(self.fadd(x, each(FLOATS, 12582912.0)), WORDS)
        whole = self.sub(shifted, each(WORDS, 0x4B400000))
        rest = self.fsub(x, self.sitofp(whole, FLOATS))
        series = each(FLOATS, POWER_SERIES[0])
        for factor in POWER_SERIES[1:]:
            series = self.fused(series, rest, each(FLOATS, factor))
        power = self.shl(whole, each(WORDS, 23))
        return self.bitcast(self.add(self.bitcast(series, WORDS), power), FLOATS)

    def half(self, value: Any) -> Any:
        """Rounds to bfloat16, to even in a tie; returns words with its 16 bits."""
        bits = self.bitcast(value, WORDS)
        odd = self.and_(self.lshr(bits, each(WORDS, 16)), each(WORDS, 1))
        rounded = self.add(self.add(bits, each(WORDS, 0x7FFF)), odd)
        return self.lshr(rounded, each(WORDS, 16))


def each(kind: ir.VectorType, value: float) -> ir.Constant:
    """A constant with the same number in every lane."""
    return ir.Constant(kind, [value] * LANES)


def vectors(*operands: Any, result: Any = types.void) -> Callable[[Callable[..., Any]], Any]:
    """As instructions.operation, of write(lanes, *values)."""

    def decorate(write: Callable[..., Any]) -> Any:
        @operation(result, *operands)
        @wraps(write)
        def on_lanes(builder: Any, *values: Any) -> Any:
            return write(Lanes(builder), *values)

        return on_lanes

    return decorate


def finishing(is_whole: bool, to: Literal["sums", "added", "numbers"]) -> Any:
    """Returns a function that scales the sums of a piece if they are int32, and adds the biases.

    It replaces the sums by the results, adds these to float32 outputs, or writes them as
    activations. Arguments are addresses but for `rows` and `out_row`, the bytes of an output row.
    """
    item = NUMBER_BYTES if to == "numbers" else 4

    @vectors(*[types.int64] * 7)
    def finish(
        lanes: Lanes, sums: Any, rows: Any, bias: Any, scales: Any, row_scales: Any, out: Any,
        out_row: Any,
    ) -> None:  # fmt: skip
        parts = range(PIECE // LANES)
        biases = [lanes.get(bias, offset=ROW * i) for i in parts]
        sizes = [lanes.get(scales, offset=ROW * i) for i in parts if is_whole]
        with cgutils.for_range(lanes.builder, rows) as loop:
            at = lanes.add(sums, lanes.mul(loop.index, LONG(4 * PIECE)))
            place = at if to == "sums" else lanes.add(out, lanes.mul(loop.index, out_row))
            if is_whole:
                of_row = lanes.number(lanes.add(row_scales, lanes.mul(loop.index, LONG(4))))
            for i in parts:
                value = lanes.get(at, offset=ROW * i)
                if is_whole:
                    whole = lanes.sitofp(lanes.get(at, WORDS, ROW * i), FLOATS)
                    value = lanes.fmul(whole, lanes.fmul(sizes[i], of_row))
                value = lanes.fadd(biases[i], value)
                if to == "added":
                    value = lanes.fadd(value, lanes.get(place, offset=ROW * i))
                if item == 2:
                    value = lanes.trunc(lanes.half(value), HALVES)
                lanes.put(value, place, LANES * item * i)

    return finish


@vectors(types.int64, types.int64)
def copy_lanes(lanes: Lanes, numbers: Any, target: Any) -> None:
    """Copies sixteen float32 to target."""
    lanes.put(lanes.get(numbers), target)


@vectors(types.int64, types.int64)
def round_lanes(lanes: Lanes, numbers: Any, target: Any) -> None:
    """Writes sixteen float32 to target as bfloat16."""
    lanes.put(lanes.trunc(lanes.half(lanes.get(numbers)), HALVES), target)


@vectors(types.int64, types.int64, types.int64)
def unpack(lanes: Lanes, packed: Any, count: Any, target: Any) -> None:
    """Unpacks `count` cache lines of int4 indices into twice as many lines of int8 `LEVELS`.

    The lower four bits of all bytes of a line come first, then the upper ones.
    """
    num_bytes = 4 * IN_USE.lanes
    name = _LOOK_UP[num_bytes]
    kind = ir.VectorType(ir.IntType(8), num_bytes)
    levels = ir.Constant(kind, [level & 0xFF for level in LEVELS] * (num_bytes // len(LEVELS)))
    lower, four = ir.Constant(kind, [0x0F] * num_bytes), ir.Constant(kind, [4] * num_bytes)
    with cgutils.for_range(lanes.builder, count) as loop:
        at = lanes.mul(loop.index, LONG(LINE))
        into = lanes.add(target, lanes.add(at, at))
        for part in range(0, LINE, num_bytes):
            both = lanes.get(lanes.add(packed, at), kind, part)
            low, high = lanes.and_(both, lower), lanes.lshr(both, four)
            for offset, half in ((0, low), (LINE, high)):
                lanes.put(call_operation(lanes, name, kind, levels, half), into, offset + part)


@vectors(types.int64, types.int64, types.int64)
def widen(lanes: Lanes, halves: Any, count: Any, target: Any) -> None:
    """Converts `count` cache lines of float16 to twice as many lines of float32."""
    with cgutils.for_range(lanes.builder, count) as loop:
        at = lanes.mul(loop.index, LONG(LINE))
        into = lanes.add(target, lanes.add(at, at))
        for part in range(2):
            half = lanes.get(lanes.add(halves, at), _HALF_FLOATS, 2 * LANES * part)
            lanes.put(lanes.fpext(half, FLOATS), into, ROW * part)


@vectors(types.int64, types.int64, types.int64)
def start_row(lanes: Lanes, numbers: Any, count: Any, target: Any) -> None:
    """Copies `count` numbers, a multiple of 16, to target. The address 0 stands for zeros."""
    with cgutils.for_range(lanes.builder, lanes.udiv(count, LONG(LANES))) as loop:
        at = lanes.mul(loop.index, LONG(ROW))
        is_there = lanes.icmp_unsigned("!=", numbers, LONG(0))
        with lanes.if_else(is_there) as (then, otherwise):
            with then:
                lanes.put(lanes.get(lanes.add(numbers, at)), lanes.add(target, at))
            with otherwise:
                lanes.put(ir.Constant(FLOATS, None), lanes.add(target, at))
