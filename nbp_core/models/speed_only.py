"""The paper's model sizes with random weights: their speed is real, their clips are noise.

A small bundled tokenizer decodes the noise, and every frame carries a notice.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nbp_core.checkpoint import lacking, without_weights
from nbp_core.config.models import ForeignTokenizerConfig, TransformerConfig
from nbp_core.config.presets import PAPER_PRESETS, RANDOM_WEIGHTS, RELEASED_LEVELS
from nbp_core.device import check_memory
from nbp_core.packed.formats import STORED, WeightFormat
from nbp_core.packed.model import Fill, PackedTransformer, decoding_bytes, pack
from nbp_core.tokenizer.conv import StreamState
from nbp_core.tokenizer.model import VideoTokenizer
from nbp_core.transformer.model import BlockTransformer, num_parameters


def preset_parameters(preset: str) -> int:
    """The number of parameters of one of the paper's sizes, counted without allocating them."""
    return num_parameters(PAPER_PRESETS[preset])


def random_packed(
    shape: TransformerConfig, device: str, weights: WeightFormat
) -> PackedTransformer:
    """A model with random weights, packed for decoding, for timing only.

    Raises ValueError if there is not enough memory for it.
    """
    model = _without_weights(shape, weights, device)
    return pack(model, weights, _random_fill(STORED[weights], device))


def random_plain(shape: TransformerConfig, dtype: torch.dtype) -> BlockTransformer:
    """A model with random weights in plain PyTorch layers on the CPU, for timing only.

    dtype: float32 or bfloat16. Raises ValueError if there is not enough memory for it.
    """
    model = _without_weights(shape, "bfloat16" if dtype == torch.bfloat16 else "float32", "cpu")
    _random_fill(dtype, "cpu")(model, "")
    return model.eval().requires_grad_(False)


def _without_weights(
    shape: TransformerConfig, weights: WeightFormat, device: str
) -> BlockTransformer:
    check_memory(shape.name, decoding_bytes(shape, weights), device)
    with without_weights():
        return BlockTransformer(replace(shape, name=f"{shape.name} ({RANDOM_WEIGHTS})"))


def _random_fill(dtype: torch.dtype, device: str) -> Fill:
    rng = torch.Generator(device).manual_seed(0)

    def fill(part: torch.nn.Module, prefix: str) -> None:
        drawn = {
            name: torch.empty(part.get_parameter(name).shape, dtype=dtype, device=device).uniform_(
                -0.035, 0.035, generator=rng
            )
            for name in lacking(part)
        }
        part.load_state_dict(drawn, strict=False, assign=True)
        part.to(device)

    return fill


class SpeedOnlyTokenizer(torch.nn.Module):
    """A bundled tokenizer that accepts 64,000 codes and marks its frames as noise."""

    def __init__(self, inner: VideoTokenizer) -> None:
        super().__init__()
        self.inner = inner
        self.config = ForeignTokenizerConfig(
            name=f"{inner.config.name} ({RANDOM_WEIGHTS})", levels=RELEASED_LEVELS
        )

    def encode(self, clip_BCTHW: Tensor) -> Tensor:
        """Clip in [0, 1] -> tokens_Bthw of the inner tokenizer."""
        return self.inner.encode(clip_BCTHW)

    def decode(self, tokens_Bthw: Tensor, state: StreamState | None = None) -> Tensor:
        """Tokens -> clip_BCTHW in [0, 1], with the notice across every frame."""
        clip = self.inner.decode(tokens_Bthw % self.inner.config.codebook_size, state)
        mark_HW = torch.from_numpy(_notice(*clip.shape[-2:])).to(clip.device)
        return clip * (1 - mark_HW) + mark_HW * (mark_HW > 0.75)


def _notice(height: int, width: int) -> NDArray[np.float32]:
    """The notice as a mask: 1 in its letters, 0.7 in the bar behind them, 0 elsewhere."""
    lines = RANDOM_WEIGHTS.replace(": ", ":\n").split("\n")
    scale = width / 320
    step = int(40 * scale)
    mask = np.zeros((height, width), np.uint8)
    mask[: step * len(lines) + step // 2] = 178
    for i, line in enumerate(lines):
        place = (int(8 * scale), step * (i + 1))
        cv2.putText(mask, line, place, cv2.FONT_HERSHEY_SIMPLEX, scale * 1.1, 255, 1, cv2.LINE_AA)
    return mask.astype(np.float32) / np.float32(255)
