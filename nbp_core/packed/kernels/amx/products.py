"""Sums of products in matrix tiles.

Their time is that of reading weights: what the hardware fetches ahead for one stream of addresses
is less than memory can give, so four are read side by side
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
    tile_order,
)
from nbp_core.packed.kernels.instructions import (
    configure,
    load_tile,
    multiply_bfloat16,
    multiply_int8,
    prefetch,
)
from nbp_core.packed.kernels.jobs import (
    COMPILED,
    INPUT,
    KIND,
    LINE,
    NUM_ROWS,
    PIECE,
    PRODUCT,
    PRODUCT_INT4,
    ROW_SIZE,
    ROWS,
    WEIGHT,
)
from nbp_core.packed.kernels.simd.lanes import unpack

AHEAD: Final = TILE_BYTES
"""Bytes that a stream is asked for before they are read."""
STEP: Final = 4 * TILE_BYTES
"""Bytes of whole weights that are read side by side."""
UNPACKED: Final = 4 * ROWS * PIECE
"""Place in a thread's scratch of what four bits stand for, after the sums."""
arranged = tile_order


def sums_bytes(row_size: int) -> int:
    """Memory that a thread needs of its own for rows of so many inputs."""
    return UNPACKED + max(2 * STEP, PIECE * row_size)


@njit(**COMPILED)
def sum_up(job, scratch, first, rows, piece):
    """Of up to 16 rows from `first` on, for the 64 outputs of a piece: float32, or int32 of int8,
    to the start of a thread's scratch."""
    row_bytes = job[ROW_SIZE] * (2 if job[KIND] == PRODUCT else 1)
    num_steps = row_bytes // LINE
    configure(CONFIGS.ctypes.data + 64 * (rows - 1))
    clear_sums()
    a, b = job[INPUT] + first * row_bytes, job[WEIGHT] + piece * num_steps * STEP
    if job[KIND] == PRODUCT_INT4:
        b = job[WEIGHT] + piece * num_steps * STEP // 2
        if job[NUM_ROWS] <= ROWS:
            _add_packed(a, row_bytes, b, num_steps, scratch + UNPACKED)
            store_sums(scratch)
            return
        # Of more rows than these all need them: the first ones unpack the whole piece.
        if first == 0:
            unpack(b, num_steps * STEP // 2 // LINE, scratch + UNPACKED)
        b = scratch + UNPACKED
    for _ in range(num_steps):
        if first == 0:
            _ask_for(b, num_steps * TILE_BYTES, TILE_BYTES)
        _add(a, row_bytes, b, num_steps * TILE_BYTES, job[KIND] != PRODUCT)
        a += LINE
        b += TILE_BYTES
    store_sums(scratch)


@njit(**COMPILED)
def _ask_for(weights, stream, count):
    """As many bytes of each of the four streams, a tile ahead."""
    for line in range(AHEAD, AHEAD + count, LINE):
        prefetch(weights + line)
        prefetch(weights + stream + line)
        prefetch(weights + 2 * stream + line)
        prefetch(weights + 3 * stream + line)


@njit(**COMPILED)
def _add(a, row_bytes, b, stream, is_int8):
    """Products of a line of each row with a tile of each stream, to the sums."""
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
    """All products of some rows with weights of four bits. What these stand for is written one step
    before it is read, for tiles cannot be read before all of them is in the cache."""
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
    """A tile of each stream."""
    for index in range(4):
        unpack(b + index * stream, TILE_BYTES // 2 // LINE, room + index * TILE_BYTES)
