"""Dot product instructions for weights of every format, and kernels that use them.

A lane is 32 bits wide: one float32, two bfloat16 or int16, or four int8. An instruction multiplies
the activations of each lane with its weights and adds the products to the lane's sum, which is
float32 or int32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils

from nbp_core.packed.kernels.instructions import call_operation
from nbp_core.packed.kernels.numbers import IN_USE
from nbp_core.packed.kernels.simd.lanes import LONG, WORD, Lanes, vectors


class _BrainFloat(ir.Type):  # type: ignore[misc]
    """LLVM's type bfloat, which llvmlite lacks."""

    def __str__(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BrainFloat)

    def __hash__(self) -> int:
        return hash(_BrainFloat)


WIDTH: Final = IN_USE.lanes
"""32-bit lanes per vector register."""
HELD: Final = 16 if IN_USE.num_registers == 32 else 8
"""Vector registers for sums; weights and activations use the others."""
IS_X86: Final = WIDTH > 4
_WORDS, _FLOATS = ir.VectorType(WORD, WIDTH), ir.VectorType(ir.FloatType(), WIDTH)
_PAIRS = ir.VectorType(ir.IntType(16), 2 * WIDTH)
_QUADS = ir.VectorType(ir.IntType(8), 4 * WIDTH)
_BRAIN_PAIRS = ir.VectorType(_BrainFloat(), 2 * WIDTH)
_HALVES = ir.VectorType(ir.HalfType(), WIDTH)
_BITS: Final = 32 * WIDTH


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """One kind of dot product instruction."""

    num_inputs: int
    """Activations per lane, and weights per lane."""
    weight_bytes: int
    """Bytes in memory of a lane's weights; may be fewer than 4, which are then widened."""
    sums: ir.VectorType
    load: Callable[[Lanes, Any], Any]
    """Emits the load of a vector of weights from an address."""
    add: Callable[[Lanes, Any, Any, Any], Any]
    """Emits sums + activations * weights."""


def _multiply_floats(lanes: Lanes, sums: Any, x: Any, weights: Any) -> Any:
    return call_operation(lanes, f"llvm.fma.v{WIDTH}f32", _FLOATS, x, weights, sums)


def _multiply_brain_floats(lanes: Lanes, sums: Any, x: Any, weights: Any) -> Any:
    name = f"llvm.x86.avx512bf16.dpbf16ps.{_BITS}"
    if not IS_X86:
        name = "llvm.aarch64.neon.bfdot.v4f32.v8bf16"
    x, weights = (lanes.bitcast(value, _BRAIN_PAIRS) for value in (x, weights))
    return call_operation(lanes, name, _FLOATS, sums, x, weights)


def _multiply_quads(lanes: Lanes, sums: Any, x: Any, weights: Any) -> Any:
    name = f"llvm.x86.avx512.vpdpbusd.{_BITS}" if IS_X86 else "llvm.aarch64.neon.sdot.v4i32.v16i8"
    x, weights = (lanes.bitcast(value, _QUADS) for value in (x, weights))
    return call_operation(lanes, name, _WORDS, sums, x, weights)


def _multiply_pairs(lanes: Lanes, sums: Any, x: Any, weights: Any) -> Any:
    name = {8: "llvm.x86.avx2.pmadd.wd", 16: "llvm.x86.avx512.pmaddw.d.512"}[WIDTH]
    x, weights = (lanes.bitcast(value, _PAIRS) for value in (x, weights))
    return lanes.add(sums, call_operation(lanes, name, _WORDS, x, weights))


def _widened_halves(lanes: Lanes, address: Any) -> Any:
    return lanes.fpext(lanes.get(address, _HALVES), _FLOATS)


def _widened_bytes(lanes: Lanes, address: Any) -> Any:
    return lanes.sext(lanes.get(address, ir.VectorType(ir.IntType(8), 2 * WIDTH)), _PAIRS)


FLOATS: Final = Dot(
    num_inputs=1,
    weight_bytes=4,
    sums=_FLOATS,
    load=lambda lanes, address: lanes.get(address, _FLOATS),
    add=_multiply_floats,
)
HALVES: Final = Dot(
    num_inputs=1, weight_bytes=2, sums=_FLOATS, load=_widened_halves, add=_multiply_floats
)
"""float16 weights, widened to float32."""
BRAIN_PAIRS: Final = Dot(
    num_inputs=2,
    weight_bytes=4,
    sums=_FLOATS,
    load=lambda lanes, address: lanes.get(address, _WORDS),
    add=_multiply_brain_floats,
)
QUADS: Final = Dot(
    num_inputs=4,
    weight_bytes=4,
    sums=_WORDS,
    load=lambda lanes, address: lanes.get(address, _WORDS),
    add=_multiply_quads,
)
"""int8 weights; on x86 the activations are unsigned."""
BYTE_PAIRS: Final = Dot(
    num_inputs=2, weight_bytes=2, sums=_WORDS, load=_widened_bytes, add=_multiply_pairs
)
"""int8 weights, widened to int16."""


def kernel(
    dot: Dot,
    num_rows: int,
    num_vectors: int,
    lines: int = 0,
    is_fresh: bool = False,
    num_streams: int = 1,
) -> Any:
    """Returns a function that multiplies num_rows rows with num_vectors vectors of columns:

    sums[r, c] += sum over k < count of x[r, k] * weights[k, c]

    `is_fresh`: the sums start at zero. All arguments are addresses and strides in bytes. For each k
    it prefetches `lines` cache lines, the first at address `ask` + k * `ask_k`. The columns are in
    num_streams equal parts, which are `stream` bytes apart in memory.
    """
    per_stream = num_vectors // num_streams

    @vectors(*[types.int64] * 11)
    def add_products(
        lanes: Lanes, x: Any, x_row: Any, x_k: Any, weights: Any, weights_k: Any, stream: Any,
        count: Any, sums: Any, sums_row: Any, ask: Any, ask_k: Any,
    ) -> None:  # fmt: skip
        rows, columns = range(num_rows), range(num_vectors)
        place_of = [lanes.add(sums, lanes.mul(sums_row, LONG(row))) for row in rows]
        held = [[cgutils.alloca_once(lanes.builder, dot.sums) for _ in columns] for _ in rows]
        for row in rows:
            for i in columns:
                start = ir.Constant(dot.sums, None)
                if not is_fresh:
                    start = lanes.get(place_of[row], dot.sums, 4 * WIDTH * i)
                lanes.store(start, held[row][i])
        with cgutils.for_range(lanes.builder, count) as loop:
            at = lanes.add(weights, lanes.mul(loop.index, weights_k))
            starts = [lanes.add(at, lanes.mul(stream, LONG(i))) for i in range(num_streams)]
            found = []
            for i in columns:
                offset = LONG(dot.weight_bytes * WIDTH * (i % per_stream))
                found.append(dot.load(lanes, lanes.add(starts[i // per_stream], offset)))
            for line in range(lines):
                lanes.ask(lanes.add(ask, lanes.mul(loop.index, ask_k)), line)
            at = lanes.add(x, lanes.mul(loop.index, x_k))
            for row in rows:
                if row % 4 == 0:
                    four = _kept(lanes, lanes.add(at, lanes.mul(x_row, LONG(row))))
                number = spread(lanes, lanes.add(four, lanes.mul(x_row, LONG(row % 4))), dot)
                for i in columns:
                    total = lanes.load(held[row][i])
                    lanes.store(dot.add(lanes, total, number, found[i]), held[row][i])
        for row in rows:
            for i in columns:
                lanes.put(lanes.load(held[row][i]), place_of[row], 4 * WIDTH * i)

    return add_products


def _kept(lanes: Lanes, address: Any) -> Any:
    """An address that LLVM keeps in a register. Otherwise it counts up an address for each of
    sixteen rows, more than there are registers."""
    one_of_one = ir.FunctionType(LONG, [LONG])
    return lanes.call(ir.InlineAsm(one_of_one, "", "=r,0"), [address])


def spread(lanes: Lanes, address: Any, dot: Dot) -> Any:
    """Broadcasts the 32 bits of activations at an address to every lane."""
    word = lanes.load(lanes.inttoptr(address, ir.PointerType(WORD)), align=4)
    first = lanes.insert_element(ir.Constant(_WORDS, ir.Undefined), word, WORD(0))
    spread = lanes.shuffle_vector(first, first, ir.Constant(_WORDS, [0] * WIDTH))
    return lanes.bitcast(spread, _FLOATS) if dot.num_inputs == 1 else spread
