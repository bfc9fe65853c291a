"""Norm, swish and padding of the tokenizer's frames in one pass, for decoding.

`place` is the address of one FRAMES record. Frames are channels-last, in the activation type.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numba import carray, float32, njit

from nbp_core.packed.kernels.instructions import fused, pointer
from nbp_core.packed.kernels.jobs import COMPILED, LINE
from nbp_core.packed.kernels.kept import njit_kept, source_digest
from nbp_core.packed.kernels.numbers import IN_USE
from nbp_core.packed.kernels.rows import EPSILON
from nbp_core.packed.kernels.simd.channels import (
    CHANNELS,
    square_floats,
    square_halves,
    sum_floats,
    sum_halves,
    swish_floats,
    swish_halves,
)
from nbp_core.packed.kernels.simd.lanes import copy_lanes

_FIELDS = (
    "input", "output", "scratch", "num_clips", "num_frames", "height", "width", "num_channels",
    "num_groups", "past", "top", "left", "weight", "bias", "beta", "number_bytes",
)  # fmt: skip
FRAMES: Final = np.dtype([(name, np.int64) for name in _FIELDS])
"""input: frames (num_clips, num_frames, height, width, num_channels). output: the same, but with
`past` frames before each clip, which the kernel leaves alone, and with `top` rows and `left`
columns on either side of a frame, to which the kernel copies its edges. num_channels is a multiple
of CHANNELS. scratch: room for SCRATCH_NUMBERS float32 per channel. weight, bias, beta: float32 of
the norm and of swish, one per channel. number_bytes: 2 if frames are bfloat16, 4 if float32."""
HALF: Final = 2
"""Bytes of a bfloat16."""
SCRATCH_NUMBERS: Final = 3
"""float32 of scratch per channel."""


@njit(**COMPILED)
def _floats(address, count):
    return carray(pointer(address), count, float32)


@njit(**COMPILED)
def _set_scales(job, frame):
    """Writes scale and shift of each channel: the norm of x is x * scale + shift. Sums are added
    per channel first, then over the channels of a group."""
    count, num_pixels = job.num_channels, job.height * job.width
    size = count // job.num_groups
    pixel_bytes = job.number_bytes * count
    sums_at, scale_at = job.scratch, job.scratch + 4 * count
    shift_at = scale_at + 4 * count
    weight, bias = _floats(job.weight, count), _floats(job.bias, count)
    sums, scale, shift = _floats(sums_at, count), _floats(scale_at, count), _floats(shift_at, count)
    total_numbers = float32(num_pixels * size)
    for c in range(count):
        shift[c] = float32(0.0)
    for c in range(0, count, CHANNELS):
        pixels = frame + job.number_bytes * c
        mean, out = shift_at + 4 * c, sums_at + 4 * c
        if job.number_bytes == HALF:
            sum_halves(pixels, num_pixels, pixel_bytes, mean, out)
        else:
            sum_floats(pixels, num_pixels, pixel_bytes, mean, out)
    for group in range(job.num_groups):
        total = float32(0.0)
        for c in range(group * size, (group + 1) * size):
            total += sums[c]
        for c in range(group * size, (group + 1) * size):
            shift[c] = total / total_numbers
    for c in range(0, count, CHANNELS):
        pixels = frame + job.number_bytes * c
        mean, out = shift_at + 4 * c, sums_at + 4 * c
        if job.number_bytes == HALF:
            square_halves(pixels, num_pixels, pixel_bytes, mean, out)
        else:
            square_floats(pixels, num_pixels, pixel_bytes, mean, out)
    for group in range(job.num_groups):
        total = float32(0.0)
        for c in range(group * size, (group + 1) * size):
            total += sums[c]
        factor = float32(1.0) / math.sqrt(total / total_numbers + float32(EPSILON))
        for c in range(group * size, (group + 1) * size):
            scale[c] = factor * weight[c]
            shift[c] = fused(-shift[c], scale[c], bias[c])


@njit(**COMPILED)
def _write_row(job, source, target):
    """Writes norm and swish of a row of pixels, then copies its first and last pixel outwards."""
    count, width, left = job.num_channels, job.width, job.left
    scale, shift = job.scratch + 4 * count, job.scratch + 8 * count
    pixel_bytes = job.number_bytes * count
    first, last = target + left * pixel_bytes, target + (left + width - 1) * pixel_bytes
    for c in range(0, count, CHANNELS):
        pixels, out = source + job.number_bytes * c, first + job.number_bytes * c
        factors, terms, beta = scale + 4 * c, shift + 4 * c, job.beta + 4 * c
        if job.number_bytes == HALF:
            swish_halves(pixels, width, pixel_bytes, factors, terms, beta, out)
        else:
            swish_floats(pixels, width, pixel_bytes, factors, terms, beta, out)
    for column in range(left):
        _copy(first, target + column * pixel_bytes, pixel_bytes)
        _copy(last, last + (column + 1) * pixel_bytes, pixel_bytes)


@njit(**COMPILED)
def _copy(source, target, num_bytes):
    """Copies bytes, a multiple of 64."""
    for at in range(0, num_bytes, LINE):
        copy_lanes(source + at, target + at)


def _compiled(sources: int) -> Any:
    """Compiles the pass with a disk cache. sources: as in work.py."""

    def normalize_frames(place):
        """Writes swish(group norm) of every frame of the record at `place`, with its edges."""
        job = carray(pointer(place), 1, FRAMES)[0]
        row_bytes = job.number_bytes * job.width * job.num_channels
        padded_bytes = job.number_bytes * (job.width + 2 * job.left) * job.num_channels
        num_rows = job.height + 2 * job.top
        for index in range(job.num_clips * job.num_frames * (sources != 0)):
            source = job.input + index * job.height * row_bytes
            before = (index // job.num_frames + 1) * job.past
            target = job.output + (before + index) * num_rows * padded_bytes
            first = target + job.top * padded_bytes
            last = first + (job.height - 1) * padded_bytes
            _set_scales(job, source)
            for row in range(job.height):
                _write_row(job, source + row * row_bytes, first + row * padded_bytes)
            for row in range(job.top):
                _copy(first, target + row * padded_bytes, padded_bytes)
                _copy(last, last + (row + 1) * padded_bytes, padded_bytes)

    return njit_kept(normalize_frames, **COMPILED)


normalize_frames = _compiled(source_digest(IN_USE.name))
