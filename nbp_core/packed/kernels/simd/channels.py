"""Vector operations on 32 channels of many pixels, for the norm and swish of frames.

Pixels are `stride` bytes apart: bfloat16 for functions named after halves, float32 for those named
after floats. Other arguments that are addresses are of float32, one per channel.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from numba import types

from nbp_core.packed.kernels.simd.lanes import (
    FLOATS,
    HALVES,
    LANES,
    ROW,
    WORDS,
    Lanes,
    each,
    vectors,
)

_VECTORS: Final = 2
"""Vectors of sixteen channels."""
CHANNELS: Final = _VECTORS * LANES
"""Channels at once: those of a cache line of bfloat16."""
_TURNS: Final = 2
"""Running sums of each channel, so that an addition need not wait for the one before it."""
_MOST: Final = 80.0
"""The largest argument of exp."""


def _offset(vector: int, is_half: bool) -> int:
    return (ROW // 2 if is_half else ROW) * vector


def _read(lanes: Lanes, pixel: Any, vector: int, is_half: bool) -> Any:
    kind = HALVES if is_half else FLOATS
    value = lanes.get(pixel, kind, _offset(vector, is_half))
    if not is_half:
        return value
    return lanes.bitcast(lanes.shl(lanes.zext(value, WORDS), each(WORDS, 16)), FLOATS)


def _sum(term: Callable[[Lanes, Any, Any], Any], is_half: bool) -> Any:
    """Returns a function (pixels, count, stride, other, out) that sums up term(pixel, other) over
    all pixels, for each channel."""

    @vectors(*[types.int64] * 5)
    def sum_terms(lanes: Lanes, pixels: Any, count: Any, stride: Any, other: Any, out: Any) -> None:
        others = [lanes.get(other, offset=ROW * i) for i in range(_VECTORS)]
        held = [lanes.places(_VECTORS, 0.0) for _ in range(_TURNS)]

        def add(index: Any, turn: int) -> None:
            pixel = lanes.add(pixels, lanes.mul(index, stride))
            for i, place in enumerate(held[turn]):
                value = term(lanes, _read(lanes, pixel, i, is_half), others[i])
                lanes.store(lanes.fadd(lanes.load(place), value), place)

        lanes.by_turns(count, _TURNS, add)
        for i in range(_VECTORS):
            total = lanes.joined([lanes.load(places[i]) for places in held], lanes.fadd)
            lanes.put(total, out, ROW * i)

    return sum_terms


def _apart(lanes: Lanes, pixel: Any, other: Any) -> Any:
    return lanes.fsub(pixel, other)


def _square(lanes: Lanes, pixel: Any, mean: Any) -> Any:
    apart = lanes.fsub(pixel, mean)
    return lanes.fmul(apart, apart)


def _swish(is_half: bool) -> Any:
    """Returns a function (pixels, count, stride, scale, shift, beta, out) that writes
    y * sigmoid(beta * y) of y = pixel * scale + shift. `out` has the same stride."""

    @vectors(*[types.int64] * 7)
    def write_swish(
        lanes: Lanes,
        pixels: Any,
        count: Any,
        stride: Any,
        scale: Any,
        shift: Any,
        beta: Any,
        out: Any,
    ) -> None:
        scales, shifts, betas = (
            [lanes.get(place, offset=ROW * i) for i in range(_VECTORS)]
            for place in (scale, shift, beta)
        )
        one, most = each(FLOATS, 1.0), each(FLOATS, _MOST)

        def write(index: Any, turn: int) -> None:
            offset = lanes.mul(index, stride)
            pixel, target = lanes.add(pixels, offset), lanes.add(out, offset)
            for i in range(_VECTORS):
                y = lanes.fused(_read(lanes, pixel, i, is_half), scales[i], shifts[i])
                size = lanes.fneg(lanes.fmul(y, betas[i]))
                fall = lanes.exp(lanes.select(lanes.fcmp_ordered("<", size, most), size, most))
                value = lanes.fdiv(y, lanes.fadd(one, fall))
                if is_half:
                    value = lanes.trunc(lanes.half(value), HALVES)
                lanes.put(value, target, _offset(i, is_half))

        lanes.by_turns(count, 1, write)

    return write_swish


sum_halves, sum_floats = _sum(_apart, True), _sum(_apart, False)
"""Sum of pixels - other."""
square_halves, square_floats = _sum(_square, True), _sum(_square, False)
"""Sum of (pixels - other) ** 2."""
swish_halves, swish_floats = _swish(True), _swish(False)
