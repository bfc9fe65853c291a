"""Instructions that numba lacks: matrix tiles (AMX), prefetches, atomics and raw addresses.

Each function is one LLVM operation, for use inside compiled functions. Addresses are integers, as
`Tensor.data_ptr` returns them. A tile is a literal from 0 to 7; it has up to 16 rows of 64 bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, Signature
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from nbp_core.packed.kernels.jobs import LINE, ROWS

_BYTE, _WORD, _LONG, _FLOAT = ir.IntType(8), ir.IntType(32), ir.IntType(64), ir.FloatType()
_POINTER = ir.PointerType(_BYTE)
_STREAMED_IN, _DATA = 3, 1


def tile_config(rows: list[int]) -> NDArray[np.uint8]:
    """The tile configuration that `configure` loads; `rows` has the rows of each tile."""
    config = np.zeros(64, np.uint8)
    config[0] = 1
    config[16:48].view(np.uint16)[: len(rows)] = LINE
    config[48 : 48 + len(rows)] = rows
    return config


def operation(result: Any, *operands: Any) -> Callable[[Callable[..., Any]], Any]:
    """Makes a numba intrinsic of write(builder, *values), which emits code and returns its result.

    result, operands: the types of the result and of the arguments of a call.
    """

    def decorate(write: Callable[..., Any]) -> Any:
        @wraps(write)
        def typing(context: Any, *arguments: Any) -> Any:
            def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                found = write(builder, *values)
                return context.get_dummy_value() if result is types.void else found

            return result(*operands), generate

        return intrinsic(typing)

    return decorate


def _tile_instruction(name: str, num_tiles: int, *operands: Any) -> Any:
    """The LLVM operation of this name on tiles, then on `operands` that begin with an address."""

    def typing(context: Any, *arguments: Any) -> Any:
        tiles = arguments[:num_tiles]
        if not all(isinstance(tile, types.IntegerLiteral) for tile in tiles):
            return None

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            inputs = [_BYTE(tile.literal_value) for tile in tiles]
            if operands:
                address, *rest = values[num_tiles:]
                inputs += [builder.inttoptr(address, _POINTER), *rest]
            call_operation(builder, name, ir.VoidType(), *inputs)
            return context.get_dummy_value()

        return types.void(*tiles, *operands), generate

    # numba learns the number of arguments from the signature.
    names = ["context", *(f"argument_{i}" for i in range(num_tiles + len(operands)))]
    named = [Parameter(name, Parameter.POSITIONAL_OR_KEYWORD) for name in names]
    typing.__signature__ = Signature(named)  # type: ignore[attr-defined]
    return intrinsic(prefer_literal=True)(typing)


def call_operation(builder: Any, name: str, result: ir.Type, *values: Any) -> Any:
    """Emits a call of LLVM's operation of this name."""
    kind = ir.FunctionType(result, [value.type for value in values])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)


configure = _tile_instruction("llvm.x86.ldtilecfg", 0, types.int64)
"""Loads the tile configuration at an address for this thread."""
zero_tile = _tile_instruction("llvm.x86.tilezero", 1)
"""Sets a tile to zero."""
load_tile = _tile_instruction("llvm.x86.tileloadd64", 1, types.int64, types.int64)
"""(tile, address, stride): loads a tile from rows that are `stride` bytes apart."""
store_tile = _tile_instruction("llvm.x86.tilestored64", 1, types.int64, types.int64)
"""(tile, address, stride): stores a tile to rows that are `stride` bytes apart."""
multiply_bfloat16 = _tile_instruction("llvm.x86.tdpbf16ps", 3)
"""(sums, left, right): sums[m, n] += left[m, 2k + i] right[k, 2n + i], in float32."""
multiply_int8 = _tile_instruction("llvm.x86.tdpbssd", 3)
"""(sums, left, right): sums[m, n] += left[m, 4k + i] right[k, 4n + i], in int32."""


def emit_prefetch(builder: Any, address: Any) -> None:
    """Prefetches the cache line at an address; an invalid address does no harm."""
    hints = [_WORD(0), _WORD(_STREAMED_IN), _WORD(_DATA)]
    place = builder.inttoptr(address, _POINTER)
    call_operation(builder, "llvm.prefetch.p0", ir.VoidType(), place, *hints)


prefetch = operation(types.void, types.int64)(emit_prefetch)


@operation(types.int64, types.int64, types.int64)
def add_atomically(builder: Any, address: Any, amount: Any) -> Any:
    """Atomically adds to the int64 at an address and returns its old value."""
    place = builder.inttoptr(address, ir.PointerType(_LONG))
    return builder.atomic_rmw("add", place, amount, "seq_cst")


@operation(types.int64, types.int64)
def load_atomically(builder: Any, address: Any) -> Any:
    """Loads the int64 at an address, with acquire order."""
    return builder.load_atomic(builder.inttoptr(address, ir.PointerType(_LONG)), "acquire", 8)


@operation(types.float32, types.int32)
def float_of_bits(builder: Any, bits: Any) -> Any:
    """Reinterprets the bits of an int32 as float32."""
    return builder.bitcast(bits, _FLOAT)


@operation(types.int32, types.float32)
def bits_of_float(builder: Any, value: Any) -> Any:
    """Reinterprets the bits of a float32 as int32."""
    return builder.bitcast(value, _WORD)


@operation(types.float32, types.float32, types.float32, types.float32)
def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c in float32, rounded once."""
    return call_operation(builder, "llvm.fma.f32", _FLOAT, a, b, c)


@operation(types.voidptr, types.int64)
def pointer(builder: Any, address: Any) -> Any:
    """Converts an address to a pointer for numba.carray."""
    return builder.inttoptr(address, cgutils.voidptr_t)


@operation(types.void, types.int64, types.int64)
def transpose_words(builder: Any, source: Any, target: Any) -> None:
    """Transposes 16 x 16 words of 32 bits from one address to another."""
    vector = ir.VectorType(_WORD, ROWS)
    kind = ir.PointerType(vector)

    def row(base: Any, index: int) -> Any:
        return builder.inttoptr(builder.add(base, _LONG(index * LINE)), kind)

    rows = [builder.load(row(source, i), align=4) for i in range(ROWS)]
    # Four rounds swap off-diagonal blocks of 8 x 8, 4 x 4, 2 x 2 and 1 x 1.
    for half in (8, 4, 2, 1):
        done = list(rows)
        for i in range(ROWS):
            if i & half:
                continue
            upper, lower = rows[i], rows[i | half]
            first = [j if not j & half else ROWS + (j ^ half) for j in range(ROWS)]
            second = [j | half if not j & half else ROWS + j for j in range(ROWS)]
            for place, order in ((i, first), (i | half, second)):
                mask = ir.Constant(vector, order)
                done[place] = builder.shuffle_vector(upper, lower, mask)
        rows = done
    for i, value in enumerate(rows):
        builder.store(value, row(target, i), align=4)
