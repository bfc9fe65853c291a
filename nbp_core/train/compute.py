"""Counts the arithmetic of a transformer's training step, to compare runs at equal compute.

Multiplications and additions of matrix products count, forward and backward. In attention, only
pairs of positions that may see each other count.

Shapes: L positions, D width.
"""

from __future__ import annotations

from functools import lru_cache

from torch import nn

from nbp_core.blocks.sequences import SequenceLayout
from nbp_core.transformer.model import BlockTransformer

FORWARD_AND_BACKWARD = 3
"""The backward pass of a matrix product is two products of its size."""


def step_tflop(model: BlockTransformer, layout: SequenceLayout, num_clips: int) -> float:
    """Operations of a training step over `num_clips` clips of a layout, in 10^12."""
    config = model.config
    linears = [m for m in model.layers.modules() if isinstance(m, nn.Linear)]
    products = layout.length * sum(linear.weight.numel() for linear in linears)
    # Scores and their sum over values, for every pair of positions that may see each other.
    products += config.num_layers * 2 * config.width * _seen_pairs(layout)
    products += (layout.length - layout.prefix_len) * config.width * config.codebook_size
    return 2 * FORWARD_AND_BACKWARD * num_clips * products / 1e12


@lru_cache(maxsize=64)
def _seen_pairs(layout: SequenceLayout) -> int:
    return int(layout.mask_LL.sum())
