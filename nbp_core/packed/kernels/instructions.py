"""Instructions that numba lacks: matrix tiles (AMX), prefetches, atomics and raw addresses.

Each function is one LLVM operation, for use inside compiled functions. Addresses are integers, as
`Tensor.data_ptr` returns them. A tile is a literal from 0 to 7; it has up to 16 rows of 64 bytes.
"""

from __future__ import annotations

from collections.abc import Callable
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


def _instruction(name: str, *operands: Any) -> Callable[..., Any]:
    """Types an intrinsic whose arguments are tiles, then `operands` that begin with an address."""

    def typing(context: Any, *arguments: Any) -> Any:
        tiles = arguments[: len(arguments) - len(operands)]
        if not all(isinstance(tile, types.IntegerLiteral) for tile in tiles):
            return None

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            inputs = [_BYTE(tile.literal_value) for tile in tiles]
            if operands:
                address, *rest = values[len(tiles) :]
                inputs += [builder.inttoptr(address, _POINTER), *rest]
            kind = ir.FunctionType(ir.VoidType(), [value.type for value in inputs])
            function = cgutils.get_or_insert_function(builder.module, kind, name)
            builder.call(function, inputs)
            return context.get_dummy_value()

        return types.void(*tiles, *operands), generate

    return typing


@intrinsic(prefer_literal=True)
def configure(context: Any, address: Any) -> Any:
    """Loads the tile configuration at an address for this thread."""
    return _instruction("llvm.x86.ldtilecfg", types.int64)(context, address)


@intrinsic(prefer_literal=True)
def zero_tile(context: Any, tile: Any) -> Any:
    """Sets a tile to zero."""
    return _instruction("llvm.x86.tilezero")(context, tile)


@intrinsic(prefer_literal=True)
def load_tile(context: Any, tile: Any, address: Any, stride: Any) -> Any:
    """Loads a tile from rows that are `stride` bytes apart."""
    typing = _instruction("llvm.x86.tileloadd64", types.int64, types.int64)
    return typing(context, tile, address, stride)


@intrinsic(prefer_literal=True)
def store_tile(context: Any, tile: Any, address: Any, stride: Any) -> Any:
    """Stores a tile to rows that are `stride` bytes apart."""
    typing = _instruction("llvm.x86.tilestored64", types.int64, types.int64)
    return typing(context, tile, address, stride)


@intrinsic(prefer_literal=True)
def multiply_bfloat16(context: Any, sums: Any, left: Any, right: Any) -> Any:
    """sums[m, n] += left[m, 2k + i] right[k, 2n + i], in float32."""
    return _instruction("llvm.x86.tdpbf16ps")(context, sums, left, right)


@intrinsic(prefer_literal=True)
def multiply_int8(context: Any, sums: Any, left: Any, right: Any) -> Any:
    """sums[m, n] += left[m, 4k + i] right[k, 4n + i], in int32."""
    return _instruction("llvm.x86.tdpbssd")(context, sums, left, right)


@intrinsic
def prefetch(context: Any, address: Any) -> Any:
    """Prefetches the cache line at an address; an invalid address does no harm."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        hints = [_WORD(0), _WORD(_STREAMED_IN), _WORD(_DATA)]
        kind = ir.FunctionType(ir.VoidType(), [_POINTER, _WORD, _WORD, _WORD])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [builder.inttoptr(values[0], _POINTER), *hints])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def add_atomically(context: Any, address: Any, amount: Any) -> Any:
    """Atomically adds to the int64 at an address and returns its old value."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = builder.inttoptr(values[0], ir.PointerType(_LONG))
        return builder.atomic_rmw("add", place, values[1], "seq_cst")

    return types.int64(types.int64, types.int64), generate


@intrinsic
def load_atomically(context: Any, address: Any) -> Any:
    """Loads the int64 at an address, with acquire order."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        place = builder.inttoptr(values[0], ir.PointerType(_LONG))
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(types.int64), generate


@intrinsic
def float_of_bits(context: Any, bits: Any) -> Any:
    """Reinterprets the bits of an int32 as float32."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], _FLOAT)

    return types.float32(types.int32), generate


@intrinsic
def bits_of_float(context: Any, value: Any) -> Any:
    """Reinterprets the bits of a float32 as int32."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], _WORD)

    return types.int32(types.float32), generate


@intrinsic
def fused(context: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c in float32, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kind = ir.FunctionType(_FLOAT, [_FLOAT] * 3)
        name = "llvm.fma.f32"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)

    return types.float32(types.float32, types.float32, types.float32), generate


@intrinsic
def pointer(context: Any, address: Any) -> Any:
    """Converts an address to a pointer for numba.carray."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.inttoptr(values[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), generate


@intrinsic
def transpose_words(context: Any, source: Any, target: Any) -> Any:
    """Transposes 16 x 16 words of 32 bits from one address to another."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        vector = ir.VectorType(_WORD, ROWS)
        kind = ir.PointerType(vector)

        def row(base: Any, index: int) -> Any:
            return builder.inttoptr(builder.add(base, _LONG(index * LINE)), kind)

        rows = [builder.load(row(values[0], i), align=4) for i in range(ROWS)]
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
                    mask = ir.Constant(ir.VectorType(_WORD, ROWS), order)
                    done[place] = builder.shuffle_vector(upper, lower, mask)
            rows = done
        for i, value in enumerate(rows):
            builder.store(value, row(values[1], i), align=4)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate
