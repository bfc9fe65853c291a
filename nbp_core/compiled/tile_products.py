"""Sums of products in matrix tiles.

Their time is that of reading weights: what the hardware fetches ahead for one stream of addresses
is less than memory can give, so four are read side by side
(docs/decisions/0012-compiled-steps.md).
"""

from __future__ import annotations

from typing import Final

from numba import njit

from nbp_core.compiled.instructions import (
    configure,
    load_tile,
    multiply_bfloat16,
    multiply_int8,
    prefetch,
)
from nbp_core.compiled.jobs import (
    COMPILED,
    INPUT,
    KIND,
    LINE,
    PRODUCT_INT8,
    ROW_SIZE,
    WEIGHT,
)
from nbp_core.compiled.tiles import CONFIGS, TILE_BYTES, clear_sums, store_sums, tile_order

AHEAD: Final = TILE_BYTES
"""Bytes that a stream is asked for before they are read."""
arranged = tile_order


@njit(**COMPILED)
def sum_up(job, scratch, first, rows, piece):
    """Of up to 16 rows from `first` on, for the 64 outputs of a piece: float32, or int32 of int8,
    to the start of a thread's scratch."""
    is_int8 = job[KIND] == PRODUCT_INT8
    row_bytes = job[ROW_SIZE] * (1 if is_int8 else 2)
    num_steps = row_bytes // LINE
    stream = num_steps * TILE_BYTES
    configure(CONFIGS.ctypes.data + 64 * (rows - 1))
    clear_sums()
    a, b = job[INPUT] + first * row_bytes, job[WEIGHT] + piece * 4 * stream
    for _ in range(num_steps):
        if first == 0:
            for line in range(AHEAD, AHEAD + TILE_BYTES, LINE):
                prefetch(b + line)
                prefetch(b + stream + line)
                prefetch(b + 2 * stream + line)
                prefetch(b + 3 * stream + line)
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
        a += LINE
        b += TILE_BYTES
    store_sums(scratch)
