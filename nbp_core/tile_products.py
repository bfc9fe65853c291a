"""Products of activations and weights in matrix tiles, compiled by numba.

A piece is 64 outputs of all rows. Its time is that of reading weights: what the hardware fetches
ahead for one stream of addresses is less than memory can give, so four are read side by side
(docs/decisions/0012-tiles-of-our-own.md).
"""

from __future__ import annotations

from numba import carray, float32, njit

from nbp_core.tile_jobs import (
    ACTIVATE,
    ADD,
    AHEAD,
    BIAS,
    COMPILED,
    CONFIGS,
    INPUT,
    INPUT_SCALE,
    KIND,
    NUM_OUTPUTS,
    NUM_ROWS,
    OUTPUT,
    PIECE,
    PRODUCT_INT8,
    ROW_SIZE,
    SCALE,
    THEN,
    WEIGHT,
    clear_sums,
    store_sums,
)
from nbp_core.tile_lanes import LANES, add_lanes, round_lanes, scale_lanes
from nbp_core.tile_vectors import gelu
from nbp_core.tiles import (
    ROW_BYTES,
    ROWS,
    TILE_BYTES,
    configure,
    load_tile,
    multiply_bfloat16,
    multiply_int8,
    pointer,
    prefetch,
)


@njit(**COMPILED)
def multiply(job, scratch, piece):
    """64 outputs of a product, for all rows."""
    is_int8 = job[KIND] == PRODUCT_INT8
    num_rows, row_bytes = job[NUM_ROWS], job[ROW_SIZE] * (1 if is_int8 else 2)
    num_steps = row_bytes // ROW_BYTES
    stream = num_steps * TILE_BYTES
    for first in range(0, num_rows, ROWS):
        rows = min(ROWS, num_rows - first)
        configure(CONFIGS.ctypes.data + 64 * (rows - 1))
        clear_sums()
        a, b = job[INPUT] + first * row_bytes, job[WEIGHT] + piece * 4 * stream
        for _ in range(num_steps):
            if first == 0:
                for line in range(AHEAD, AHEAD + TILE_BYTES, ROW_BYTES):
                    prefetch(b + line)
                    prefetch(b + stream + line)
                    prefetch(b + 2 * stream + line)
                    prefetch(b + 3 * stream + line)
            load_tile(4, a, row_bytes)
            load_tile(5, b, ROW_BYTES)
            load_tile(6, b + stream, ROW_BYTES)
            if is_int8:
                multiply_int8(0, 4, 5)
                multiply_int8(1, 4, 6)
            else:
                multiply_bfloat16(0, 4, 5)
                multiply_bfloat16(1, 4, 6)
            load_tile(7, b + 2 * stream, ROW_BYTES)
            load_tile(5, b + 3 * stream, ROW_BYTES)
            if is_int8:
                multiply_int8(2, 4, 7)
                multiply_int8(3, 4, 5)
            else:
                multiply_bfloat16(2, 4, 7)
                multiply_bfloat16(3, 4, 5)
            a += ROW_BYTES
            b += TILE_BYTES
        store_sums(scratch)
        _shift(job, scratch, first, rows, piece)
        if job[THEN] == ACTIVATE:
            _activate(scratch, rows * PIECE)
        _write(job, scratch, first, rows, piece)


@njit(**COMPILED)
def _shift(job, scratch, first, rows, piece):
    """Sums of whole numbers become what they stand for, and biases are added."""
    bias, scales = job[BIAS] + 4 * PIECE * piece, job[SCALE] + 4 * PIECE * piece
    for row in range(rows):
        sums = scratch + 4 * PIECE * row
        if job[KIND] == PRODUCT_INT8:
            of_row = carray(pointer(job[INPUT_SCALE] + 4 * (first + row)), 1, float32)[0]
            for place in range(0, 4 * PIECE, ROW_BYTES):
                scale_lanes(sums + place, scales + place, of_row)
        for place in range(0, 4 * PIECE, ROW_BYTES):
            add_lanes(bias + place, sums + place)


@njit(**COMPILED)
def _activate(scratch, count):
    # One long loop: LLVM makes vectors of it, but not of 64 turns of a loop inside another.
    sums = carray(pointer(scratch), count, float32)
    for i in range(count):
        sums[i] = gelu(sums[i])


@njit(**COMPILED)
def _write(job, scratch, first, rows, piece):
    """Sums -> outputs."""
    for row in range(rows):
        sums, place = scratch + 4 * PIECE * row, (first + row) * job[NUM_OUTPUTS] + piece * PIECE
        for lane in range(0, PIECE, LANES):
            if job[THEN] == ADD:
                add_lanes(sums + 4 * lane, job[OUTPUT] + 4 * (place + lane))
            else:
                round_lanes(sums + 4 * lane, job[OUTPUT] + 2 * (place + lane))
