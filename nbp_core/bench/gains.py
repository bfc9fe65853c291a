"""Measures in a second or two how much faster products with int8 and int4 weights are here.

Output: for each weight format, the speed of a product relative to the processor's default format.
Shapes: O outputs, I inputs, M rows.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import nn

from nbp_core.packed.formats import WeightFormat, compute_dtype, formats_on
from nbp_core.packed.linear import pack_linear

OUTPUTS, INPUTS = 16_384, 2_048
"""Shape of the matrix. It exceeds the cache, so that weights are read from memory."""
ROW_TOKENS = 16
REPEATS = 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """Speed of a product in a weight format, relative to the default format."""

    weight_format: str
    token: float
    """Relative speed for one row of activations: next-token prediction."""
    row: float
    """Relative speed for 16 rows of activations: a row block."""

    def text(self) -> str:
        """One sentence with both figures."""
        return (
            f"{self.weight_format} weights: {self.token:.1f} times as fast as"
            f" {formats_on('cpu')[0]} for steps of one token, {self.row:.1f} times for a row of 16"
        )


def measure_gains() -> list[Gain]:
    """Times all formats of this processor alternately, so that other load affects all of them."""
    rng = torch.Generator().manual_seed(0)
    weight_OI = torch.randn(OUTPUTS, INPUTS, generator=rng) * INPUTS**-0.5
    usual, *smaller = formats_on("cpu")
    if not smaller:
        return []
    layers = {held: pack_linear(weight_OI, None, held) for held in (usual, *smaller)}
    token, row = (_least_seconds(layers, rows) for rows in (1, ROW_TOKENS))
    return [
        Gain(weight_format=held, token=token[usual] / token[held], row=row[usual] / row[held])
        for held in smaller
    ]


@torch.inference_mode()
def _least_seconds(layers: dict[WeightFormat, nn.Module], num_rows: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {held: [] for held in layers}
    for _ in range(REPEATS):
        for held, layer in layers.items():
            x_MI = torch.randn(num_rows, INPUTS).to(compute_dtype(held))
            began = time.perf_counter()
            layer(x_MI)
            seconds[held].append(time.perf_counter() - began)
    # The minimum is the time without other load.
    return {held: min(times) for held, times in seconds.items()}
