"""The number type of activations, and scalar functions that LLVM vectorises in loops.

Activations are bfloat16 on processors with bfloat16 products, else float32. For int8 and int4
weights they are quantised to 8 or 16 bits.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numba import config, float32, int8, int16, int32, njit, uint8, uint16, uint32

from nbp_core.packed.kernels.instructions import bits_of_float, float_of_bits, fused
from nbp_core.packed.kernels.jobs import COMPILED
from nbp_core.processor import InstructionSet
from nbp_core.runtime import runtime

SERIES: Final = (
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    0.16666665459,
    0.5,
)
LEAST, LOG2_E, LN_2_HIGH, LN_2_LOW = -87.0, 1.44269504, 0.693359375, -2.12194440e-4
"""Constants of exp, here and in lanes.py: SERIES, the coefficients of its polynomial; its smallest
argument; log2(e); and ln(2) as the sum of two numbers."""


@njit(**COMPILED)
def single(bits):
    """Converts the bits of a bfloat16 to float32."""
    return float_of_bits(int32(uint32(bits) << uint32(16)))


@njit(**COMPILED)
def half(value):
    """Rounds float32 to the bits of the nearest bfloat16, to even in a tie."""
    bits = uint32(bits_of_float(value))
    return uint16((bits + uint32(0x7FFF) + ((bits >> uint32(16)) & uint32(1))) >> uint32(16))


@njit(**COMPILED)
def _same(value):
    return value


def _in_use() -> InstructionSet:
    found = runtime().instructions
    assert found is not None, "no kernel is compiled for this processor"
    if runtime().is_limited and found.cpu is not None:
        # So loops that LLVM vectorises by itself use no better instructions either.
        config.CPU_NAME, config.CPU_FEATURES = found.cpu, ""
    return found


IN_USE: Final = _in_use()
NUMBERS: Final = torch.bfloat16 if IN_USE.has_bfloat16 else torch.float32
NUMBER_BYTES: Final = NUMBERS.itemsize
NUMBER = uint16 if IN_USE.has_bfloat16 else float32
"""The type of an activation in memory; its conversion to float32 and back."""
read, written = (single, half) if IN_USE.has_bfloat16 else (_same, _same)
BITS = uint16 if IN_USE.has_bfloat16 else uint32
SIZE_BITS = BITS(0x7FFF) if IN_USE.has_bfloat16 else BITS(0x7FFFFFFF)
"""The integer type of an activation's bits, and the mask without the sign bit."""


@njit(**COMPILED)
def _float_of_word(bits):
    return float_of_bits(int32(bits))


float_of = single if IN_USE.has_bfloat16 else _float_of_word
"""Converts the bits of an activation to float32."""
IS_UNSIGNED: Final = IN_USE.int8 == "quads" and IN_USE.lanes > 4 and not IN_USE.has_tiles
LEVEL_BYTES: Final = 2 if IN_USE.int8 == "pairs" else 1
LEVEL_ZERO: Final = 128 if IS_UNSIGNED else 0
"""Quantised activations: bytes of each, and the value that stands for 0."""
LEVEL = int16 if IN_USE.int8 == "pairs" else uint8 if IS_UNSIGNED else int8


@njit(**COMPILED)
def exp(x):
    """exp(x) for x up to 80, to one bit of float32: a power of two times a polynomial of the
    rest."""
    x = max(x, float32(LEAST))
    whole = np.floor(fused(x, float32(LOG2_E), float32(0.5)))
    rest = fused(whole, float32(-LN_2_LOW), fused(whole, float32(-LN_2_HIGH), x))
    series = fused(float32(SERIES[0]), rest, float32(SERIES[1]))
    series = fused(series, rest, float32(SERIES[2]))
    series = fused(series, rest, float32(SERIES[3]))
    series = fused(series, rest, float32(SERIES[4]))
    series = fused(series, rest, float32(SERIES[5]))
    series = fused(series * rest, rest, rest) + float32(1.0)
    return series * float_of_bits((int32(whole) + int32(127)) << int32(23))


@njit(**COMPILED)
def gelu(x):
    """GELU, with erf by formula 7.1.26 of Abramowitz and Stegun."""
    z = abs(x) * float32(0.70710678)
    t = float32(1.0) / fused(float32(0.3275911), z, float32(1.0))
    series = fused(float32(1.061405429), t, float32(-1.453152027))
    series = fused(series, t, float32(1.421413741))
    series = fused(series, t, float32(-0.284496736))
    series = fused(series, t, float32(0.254829592))
    tail = float32(0.5) * series * t * exp(-z * z)
    return x * (float32(1.0) - tail if x > float32(0.0) else tail)
