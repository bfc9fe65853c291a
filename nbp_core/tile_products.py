"""Products of activations and weights in matrix tiles, compiled by numba.

A piece is 64 outputs of all rows. Its time is that of reading weights: what the hardware fetches
ahead for one stream of addresses is less than memory can give, so four are read side by side
(docs/decisions/0012-tiles-of-our-own.md).
"""

from __future__ import annotations

from numba import carray, float32, int8, int32, njit, uint16

from nbp_core.tile_jobs import (
    AHEAD,
    BIAS,
    COMPILED,
    CONFIGS,
    INPUT,
    INPUT_SCALE,
    IS_GELU_NEXT,
    KIND,
    NUM_OUTPUTS,
    NUM_ROWS,
    OUTPUT,
    PIECE,
    PRODUCT_INT8,
    ROW_SIZE,
    SCALE,
    WEIGHT,
    clear_sums,
    store_sums,
)
from nbp_core.tile_vectors import gelu, half, single
from nbp_core.tiles import (
    ROW_BYTES,
    ROWS,
    TILE_BYTES,
    bits_of_float,
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
    num_rows, row_bytes = job[NUM_ROWS], job[ROW_SIZE]
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
        if job[IS_GELU_NEXT]:
            _activate(scratch, rows * PIECE)
        _write(job, scratch, first, rows, piece)


@njit(**COMPILED)
def _shift(job, scratch, first, rows, piece):
    """Sums of whole numbers become what they stand for, and biases are added."""
    bias = carray(pointer(job[BIAS] + piece * PIECE * 4), PIECE, float32)
    for row in range(rows):
        sums = carray(pointer(scratch + row * PIECE * 4), PIECE, float32)
        if job[KIND] == PRODUCT_INT8:
            whole = carray(pointer(scratch + row * PIECE * 4), PIECE, int32)
            scale = carray(pointer(job[SCALE] + piece * PIECE * 4), PIECE, float32)
            of_row = carray(pointer(job[INPUT_SCALE] + 4 * (first + row)), 1, float32)[0]
            for i in range(PIECE):
                sums[i] = float32(whole[i]) * (of_row * scale[i])
        for i in range(PIECE):
            sums[i] += bias[i]


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
        sums = carray(pointer(scratch + row * PIECE * 4), PIECE, float32)
        place = 2 * ((first + row) * job[NUM_OUTPUTS] + piece * PIECE)
        out = carray(pointer(job[OUTPUT] + place), PIECE, uint16)
        for i in range(PIECE):
            out[i] = half(sums[i])


@njit(**COMPILED)
def quantize(job, row):
    """One row of bfloat16 -> int8 in [-127, 127] and its scale."""
    count = job[ROW_SIZE]
    x = carray(pointer(job[INPUT] + 2 * row * count), count, uint16)
    out = carray(pointer(job[OUTPUT] + row * count), count, int8)
    peak = uint16(0)
    for i in range(count):
        # Without its sign, a larger number has larger bits.
        peak = max(peak, uint16(x[i] & uint16(0x7FFF)))
    largest = max(single(peak), float32(1e-8))
    carray(pointer(job[INPUT_SCALE] + 4 * row), 1, float32)[0] = largest / float32(127.0)
    factor = float32(127.0) / largest
    for i in range(count):
        # So large a number leaves no bits for fractions: whole numbers are its last ones.
        out[i] = int8(bits_of_float(single(x[i]) * factor + float32(12582912.0)))
