"""The interface of all tokenizers, and conversions between their clips and uint8 frames."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from nbp_core.config.models import TokenGridConfig
from nbp_core.media.files import Frames
from nbp_core.tokenizer.conv import StreamState


class Tokenizer(Protocol):
    """Encodes clips to tokens and decodes tokens to clips, as VideoTokenizer does."""

    @property
    def config(self) -> TokenGridConfig: ...

    def encode(self, clip_BCTHW: Tensor) -> Tensor: ...

    def decode(self, tokens_Bthw: Tensor, state: StreamState | None = None) -> Tensor: ...


def to_clip(frames_BTHWC: Frames, device: str | torch.device) -> Tensor:
    """uint8 frames -> clip_BCTHW in [0, 1] on the device."""
    clip = torch.from_numpy(np.ascontiguousarray(frames_BTHWC)).to(device)
    return rearrange(clip, "b t h w c -> b c t h w").float() / 255


def to_frames(clip_BCTHW: Tensor) -> Frames:
    """Clip in [0, 1] -> uint8 (B, T, H, W, C)."""
    rounded = (clip_BCTHW * 255).round().to(torch.uint8)
    frames: Frames = rearrange(rounded, "b c t h w -> b t h w c").cpu().numpy()
    return frames
