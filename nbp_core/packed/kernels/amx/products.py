"""Matrix products with matrix tiles (AMX).

Reading the weights takes all the time. The hardware prefetches one stream of addresses more slowly
than memory can deliver, so four streams are read side by side
(docs/decisions/0012-compiled-steps.md).
"""

from __future__ import annotations

from typing import Final

from numba import njit

from nbp_core.packed.kernels.amx.tiles import (
    CONFIGS,
    TILE_BYTES,
    clear_sums,
    store_sums,
)
from nbp_core.packed.kernels.instructions import (
    configure,
    load_tile,
    multiply_bfloat16,
    multiply_int8,
    prefetch,
)
from nbp_core.packed.kernels.jobs import COMPILED, LINE, PIECE, PRODUCT, PRODUCT_INT4, ROWS
from nbp_core.packed.kernels.simd.lanes import unpack

COLUMN: Final = 16
"""Outputs of a tile of weights."""
AHEAD: Final = TILE_BYTES
"""How far ahead a stream is prefetched, in bytes."""
STEP: Final = 4 * TILE_BYTES
"""Bytes that the four streams read in one step; int4 weights are unpacked first."""
UNPACKED: Final = 4 * ROWS * PIECE
"""Byte offset of unpacked int4 weights in a thread's scratch buffer; sums come before."""


def sums_bytes(row_size: int) -> int:
    """Bytes of scratch buffer per thread for rows of `row_size` inputs."""
    return UNPACKED + max(2 * STEP, PIECE * row_size)


@njit(**COMPILED)
def sum_up(job, scratch, first, rows, piece):
    """Computes the 64 outputs of a piece for up to 16 rows from `first` on.

    The sums go to the start of a thread's scratch buffer: float32, or int32 for int8 and int4.
    """
    row_bytes = job.row_size * (2 if job.kind == PRODUCT else 1)
    num_steps = row_bytes // LINE
    configure(CONFIGS.ctypes.data + 64 * (rows - 1))
    clear_sums()
    a, b = job.input + first * row_bytes, job.weight + piece * num_steps * STEP
    if job.kind == PRODUCT_INT4:
        b = job.weight + piece * num_steps * STEP // 2
        if job.num_rows <= ROWS:
            _add_packed(a, row_bytes, b, num_steps, scratch + UNPACKED)
            store_sums(scratch)
            return
        # Later rows need the same weights, so the first ones unpack the whole piece.
        if first == 0:
            unpack(b, num_steps * STEP // 2 // LINE, scratch + UNPACKED)
        b = scratch + UNPACKED
    for _ in range(num_steps):
        if first == 0:
            _ask_for(b, num_steps * TILE_BYTES, TILE_BYTES)
        _add(a, row_bytes, b, num_steps * TILE_BYTES, job.kind != PRODUCT)
        a += LINE
        b += TILE_BYTES
    store_sums(scratch)


@njit(**COMPILED)
def _ask_for(weights, stream, count):
    """Prefetches `count` bytes of each of the four streams, one tile ahead."""
    for line in range(AHEAD, AHEAD + count, LINE):
        prefetch(weights + line)
        prefetch(weights + stream + line)
        prefetch(weights + 2 * stream + line)
        prefetch(weights + 3 * stream + line)


@njit(**COMPILED)
def _add(a, row_bytes, b, stream, is_int8):
    """Adds the products of 64 bytes of each row with a tile of each stream."""
    load_tile(4, a, row_bytes)
    load_tile(5, b, LINE)
    load_tile(6, b + stream, LINE)
    if is_int8:
        multiply_int8(0, 4, 5)
        multiply_int8(1, 4, 6)
    else:
        multiply_bfloat16(0, 4, 5)
        multiply_bfloat16(1, 4, 6)
    load_tile(7, b + 2 * stream, LINE)
    load_tile(5, b + 3 * stream, LINE)
    if is_int8:
        multiply_int8(2, 4, 7)
        multiply_int8(3, 4, 5)
    else:
        multiply_bfloat16(2, 4, 7)
        multiply_bfloat16(3, 4, 5)


@njit(**COMPILED)
def _add_packed(a, row_bytes, b, num_steps, room):
    """Adds all products of some rows with int4 weights. These are unpacked one step ahead, because
    a tile load waits until all of its bytes are in the cache."""
    stream = num_steps * TILE_BYTES // 2
    _unpack_step(b, stream, room)
    for step in range(num_steps):
        b += TILE_BYTES // 2
        _ask_for(b, stream, TILE_BYTES // 2)
        if step + 1 < num_steps:
            _unpack_step(b, stream, room + (step + 1) % 2 * STEP)
        _add(a, row_bytes, room + step % 2 * STEP, TILE_BYTES, True)
        a += LINE


@njit(**COMPILED)
def _unpack_step(b, stream, room):
    """Unpacks one tile of each stream."""
    for index in range(4):
        unpack(b + index * stream, TILE_BYTES // 2 // LINE, room + index * TILE_BYTES)
