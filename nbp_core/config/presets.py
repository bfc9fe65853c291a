"""Named configurations: the released tokenizer's and ours, the paper's transformers and ours."""

from __future__ import annotations

import math

from nbp_core.config.models import (
    ForeignTokenizerConfig,
    StageConfig,
    TokenizerConfig,
    TransformerConfig,
)
from nbp_core.config.shapes import Size3

_SPACE: Size3 = (1, 3, 3)
_TIME: Size3 = (3, 1, 1)


def _stage(width: int, units: int) -> StageConfig:
    return StageConfig(width=width, encoder_units=units, decoder_units=units)


RELEASED_LEVELS = (8, 8, 8, 5, 5, 5)
"""FSQ levels of the released tokenizers: 64,000 codes."""
COSMOS = ForeignTokenizerConfig(name="cosmos-dv4x8x8", levels=RELEASED_LEVELS)
"""NVIDIA's Cosmos DV4x8x8."""

TOKENIZER_PRESETS: dict[str, TokenizerConfig] = {
    "magvit2-64k": TokenizerConfig(
        name="magvit2-64k",
        stages=(_stage(128, 4), _stage(256, 4), _stage(256, 4), _stage(512, 8)),
        strides=((1, 2, 2), (2, 2, 2), (2, 2, 2)),
        levels=RELEASED_LEVELS,
    ),
    "nano": TokenizerConfig(
        name="nano",
        stages=(
            StageConfig(width=64, encoder_units=1, decoder_units=2, kernel=_SPACE),
            StageConfig(
                width=128, encoder_units=2, decoder_units=3, kernel=_SPACE, second_kernel=_TIME
            ),
            StageConfig(
                width=192, encoder_units=2, decoder_units=4, kernel=_SPACE, second_kernel=_TIME
            ),
        ),
        strides=((2, 2, 2), (2, 1, 1)),
        levels=(7, 5, 5, 5, 5),
        patch=4,
        up_kernel=(1, 1, 1),
        io_kernel=_SPACE,
    ),
}


def paper_scale(name: str, num_layers: int, width: int, num_heads: int) -> TransformerConfig:
    """A model of the paper's size, in the layout of the released K600 models: no conditions."""
    return TransformerConfig(
        name=name,
        num_layers=num_layers,
        width=width,
        num_heads=num_heads,
        layout="plain",
        codebook_size=math.prod(RELEASED_LEVELS),
    )


def elastic(
    name: str, num_layers: int, width: int, codebook_size: int, actions: tuple[str, ...]
) -> TransformerConfig:
    """One of our own models: any block shape with one set of weights, one condition token."""
    return TransformerConfig(
        name=name,
        num_layers=num_layers,
        width=width,
        num_heads=width // HEAD_WIDTH,
        layout="elastic",
        codebook_size=codebook_size,
        num_conditions=len(actions) + 1,
        prefix_len=1,
        actions=actions,
        rope=True,
        rms_norm=True,
        swiglu=True,
        aimed=True,
    )


PAPER_PRESETS: dict[str, TransformerConfig] = {
    "XL": paper_scale("XL", 24, 1536, 16),
    "XXL": paper_scale("XXL", 24, 2048, 32),
    "3B": paper_scale("3B", 32, 3072, 32),
}
RANDOM_WEIGHTS = "random weights: speed only"
"""Marks the clips of untrained models of the paper's sizes."""
HEAD_WIDTH = 64
ELASTIC_SIZES: dict[str, tuple[int, int]] = {"tiny": (4, 192), "small": (8, 256)}
"""Layers and width of our own models; codebook and actions come from the training data."""
