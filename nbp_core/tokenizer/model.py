"""TOKENS: clips to grids of integers and back. This module does not know blocks or transformers.

Shapes: clip_BCTHW float in [0, 1] with T = 1 + 4n; tokens_Bthw int64; latents at the quantizer are
channels-last (B, t, h, w, D). Sizes come from TokenizerConfig. Source: the paper's section on
tokenization and the released tokenizer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import torch
from einops import rearrange
from torch import Tensor, nn

from nbp_core.checkpoint import load_model
from nbp_core.config.models import TokenizerConfig
from nbp_core.tokenizer.conv import (
    CausalConv3d,
    FrameNorm,
    ResidualUnit,
    StreamState,
    Swish,
    Upsample,
    run_layers,
)
from nbp_core.tokenizer.fsq import FSQ


def _units(cin: int, cout: int, count: int, config: TokenizerConfig, stage: int) -> list[nn.Module]:
    first, second = config.stages[stage].kernel, config.stages[stage].second_kernel
    kernels = (first, second or first)
    return [
        ResidualUnit(cout if i else cin, cout, kernels, config.norm_groups) for i in range(count)
    ]


def _encoder_layers(config: TokenizerConfig) -> nn.ModuleList:
    stages, groups = config.stages, config.norm_groups
    width = stages[0].width
    layers: list[nn.Module] = [CausalConv3d(3 * config.patch**2, width, config.io_kernel)]
    for i, stage in enumerate(stages):
        layers += _units(width, stage.width, stage.encoder_units, config, i)
        width = stage.width
        if i < len(config.strides):
            layers.append(CausalConv3d(width, width, (3, 3, 3), config.strides[i]))
    layers += [FrameNorm(groups, width), Swish(width)]
    layers.append(CausalConv3d(width, len(config.levels), (1, 1, 1)))
    return nn.ModuleList(layers)


def _decoder_layers(config: TokenizerConfig) -> nn.ModuleList:
    stages, groups = config.stages, config.norm_groups
    width = stages[-1].width
    layers: list[nn.Module] = [CausalConv3d(len(config.levels), width, (3, 3, 3))]
    for i in reversed(range(len(stages))):
        layers += _units(width, stages[i].width, stages[i].decoder_units, config, i)
        width = stages[i].width
        if i > 0:
            layers.append(Upsample(width, width, config.up_kernel, config.strides[i - 1]))
    layers += [FrameNorm(groups, width), Swish(width)]
    layers.append(CausalConv3d(width, 3 * config.patch**2, config.io_kernel))
    return nn.ModuleList(layers)


def _dtype(layers: nn.ModuleList) -> torch.dtype:
    return next(layers.parameters()).dtype


def _shown(tensor: Tensor) -> str:
    """The shape of a tensor, for people."""
    return str(tuple(tensor.shape))


class VideoTokenizer(nn.Module):
    """Causal 3D CNN with FSQ. An image is encoded as a clip of one frame."""

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder_layers = _encoder_layers(config)
        self.decoder_layers = _decoder_layers(config)
        self.quantizer = FSQ(config.levels)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Loads a model folder. Raises CheckpointError (a ValueError) with one sentence."""
        model = load_model(Path(folder), TokenizerConfig, cls, device=device, dtype=dtype)
        return model.channels_last()

    def channels_last(self) -> Self:
        """This model with channels-last kernels, the memory format of its activations.

        Channels-last lets the per-frame norm fold time into the batch without a copy.
        """
        model: Self = self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
        return model

    def to_latent(self, clip_BCTHW: Tensor) -> Tensor:
        """Clip in [0, 1] -> latent (B, t, h, w, D) before FSQ, float32."""
        patch = self.config.patch
        x = rearrange(clip_BCTHW, "b c t (h p) (w q) -> b (p q c) t h w", p=patch, q=patch)
        x = x.to(_dtype(self.encoder_layers)).contiguous(memory_format=torch.channels_last_3d)
        latent = run_layers(self.encoder_layers, x, None)
        return rearrange(latent, "b d t h w -> b t h w d").float()

    def from_code(self, code_BthwD: Tensor, state: StreamState | None = None) -> Tensor:
        """Code (B, t, h, w, D) in [-1, 1] -> clip, not clamped. With a state: the next frames."""
        patch = self.config.patch
        code = rearrange(code_BthwD, "b t h w d -> b d t h w")
        x = run_layers(self.decoder_layers, code.to(_dtype(self.decoder_layers)), state)
        return rearrange(x, "b (p q c) t h w -> b c t (h p) (w q)", p=patch, q=patch)

    def forward(self, clip_BCTHW: Tensor) -> Tensor:
        """Clip -> reconstruction, not clamped. Training compares the two."""
        return self.from_code(self.quantizer(self.to_latent(clip_BCTHW)))

    @torch.inference_mode()
    def encode(self, clip_BCTHW: Tensor) -> Tensor:
        """Clip in [0, 1], T = 1 + 4n, sides multiples of config.space_factor -> tokens_Bthw, int64.

        Raises ValueError for a tensor of another size, shape or type.
        """
        if clip_BCTHW.ndim != 5 or clip_BCTHW.shape[1] != 3 or not len(clip_BCTHW):
            raise ValueError(f"clips must be of shape (B, 3, T, H, W), not {_shown(clip_BCTHW)}")
        if not clip_BCTHW.is_floating_point():
            raise ValueError(f"clips must be floats in [0, 1], not {clip_BCTHW.dtype}")
        self.config.grid(*clip_BCTHW.shape[2:])
        return self.quantizer.code_to_token(self.quantizer(self.to_latent(clip_BCTHW)))

    @torch.inference_mode()
    def decode(self, tokens_Bthw: Tensor, state: StreamState | None = None) -> Tensor:
        """Tokens -> clip_BCTHW, float32 in [0, 1].

        With a `state` (an empty dict for a new clip) each call decodes the next latent frames of
        that clip. Latent frames decoded one at a time equal the clip decoded whole. Raises
        ValueError for a tensor of another shape or type.
        """
        if tokens_Bthw.ndim != 4 or not tokens_Bthw.numel():
            raise ValueError(f"tokens must be of shape (B, t, h, w), not {_shown(tokens_Bthw)}")
        if tokens_Bthw.is_floating_point():
            raise ValueError(f"tokens must be whole numbers, not {tokens_Bthw.dtype}")
        code = self.quantizer.token_to_code(tokens_Bthw)
        return self.from_code(code, state).float().clamp(0, 1)
