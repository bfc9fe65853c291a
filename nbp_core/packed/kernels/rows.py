"""Jobs on single rows between matrix products: norms, SwiGLU gates, quantisation.

A piece of a job is one row. `place` is the address of the job's record.
"""

from __future__ import annotations

import math

from numba import carray, float32, int32, njit

from nbp_core.packed.kernels.instructions import bits_of_float, fused, pointer
from nbp_core.packed.kernels.jobs import COMPILED, LAYER_NORM, ROW_JOB
from nbp_core.packed.kernels.numbers import (
    BITS,
    LEVEL,
    LEVEL_BYTES,
    LEVEL_ZERO,
    NUMBER,
    NUMBER_BYTES,
    SIZE_BITS,
    exp,
    float_of,
    read,
    written,
)
from nbp_core.packed.kernels.simd.sums import sum_apart, sum_squares

EPSILON = 1e-5
"""Added to the variance, in every norm."""


@njit(**COMPILED)
def normalize(place, row):
    """Applies LayerNorm or RMSNorm to a float32 row and writes it in the activation type."""
    job = carray(pointer(place), 1, ROW_JOB)[0]
    count = job.row_size
    numbers = job.input + 4 * row * count
    x = carray(pointer(numbers), count, float32)
    out = carray(pointer(job.output + NUMBER_BYTES * row * job.output_size), count, NUMBER)
    weight = carray(pointer(job.weight), count, float32)
    bias = carray(pointer(job.bias), count, float32)
    mean = float32(0.0)
    if job.kind == LAYER_NORM:
        mean = sum_apart(numbers, count, mean) / float32(count)
    square = sum_squares(numbers, count, mean) / float32(count)
    factor = float32(1.0) / math.sqrt(square + float32(EPSILON))
    for i in range(count):
        out[i] = written(fused((x[i] - mean) * factor, weight[i], bias[i]))


@njit(**COMPILED)
def gate(place, row):
    """Writes silu(first half) * second half of a row."""
    job = carray(pointer(place), 1, ROW_JOB)[0]
    count = job.row_size // 2
    x = carray(pointer(job.input + NUMBER_BYTES * row * 2 * count), 2 * count, NUMBER)
    out = carray(pointer(job.output + NUMBER_BYTES * row * job.output_size), count, NUMBER)
    for i in range(count):
        opened = read(x[i])
        opened /= float32(1.0) + exp(min(-opened, float32(80.0)))
        out[i] = written(opened * read(x[count + i]))


@njit(**COMPILED)
def quantize(place, row):
    """Quantises a row to [-127, 127], offset by LEVEL_ZERO, and writes its scale."""
    job = carray(pointer(place), 1, ROW_JOB)[0]
    count = job.row_size
    numbers = job.input + NUMBER_BYTES * row * count
    x = carray(pointer(numbers), count, NUMBER)
    bits = carray(pointer(numbers), count, BITS)
    out = carray(pointer(job.output + LEVEL_BYTES * row * count), count, LEVEL)
    peak = BITS(0)
    for i in range(count):
        # Without the sign bit, a larger number has larger bits.
        peak = max(peak, BITS(bits[i] & SIZE_BITS))
    largest = max(float_of(peak), float32(1e-8))
    carray(pointer(job.scale + 4 * row), 1, float32)[0] = largest / float32(127.0)
    factor = float32(127.0) / largest
    for i in range(count):
        # Adding 1.5 * 2 ** 23 rounds to a whole number, which the lowest bits then hold.
        whole = bits_of_float(fused(read(x[i]), factor, float32(12582912.0)))
        out[i] = LEVEL(whole + int32(LEVEL_ZERO))
