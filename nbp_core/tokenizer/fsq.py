"""Finite scalar quantisation (FSQ): latent <-> code <-> token. Always computed in float32.

Latent: the encoder's unbounded output. Code: the latent, rounded and scaled to [-1, 1]. Token: the
code as one integer.
Source: FSQ (arXiv 2309.15505), as in the released NBP tokenizer.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class FSQ(nn.Module):
    """Rounds channel i to levels[i] values. The codebook is the product of all levels."""

    basis: Tensor
    levels: Tensor
    half_levels: Tensor
    offset: Tensor
    shift: Tensor
    half_width: Tensor

    def __init__(self, levels: tuple[int, ...]) -> None:
        super().__init__()
        self.codebook_size = math.prod(levels)
        levels_D = torch.tensor(levels)
        half_l = (levels_D - 1) * (1 - 1e-3) / 2
        offset = torch.where(levels_D % 2 == 0, 0.5, 0.0)
        basis = torch.tensor([math.prod(levels[:i]) for i in range(len(levels))])
        # These buffers follow from the config, so checkpoints do not hold them.
        self.register_buffer("levels", levels_D, persistent=False)
        self.register_buffer("half_levels", half_l, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self.register_buffer("shift", torch.tan(offset / half_l), persistent=False)
        self.register_buffer("half_width", levels_D // 2, persistent=False)
        self.register_buffer("basis", basis, persistent=False)

    def bound(self, latent: Tensor) -> Tensor:
        """Squeezes a latent (..., D) so that rounding gives channel i exactly levels[i] values."""
        half_levels, offset, shift = (
            b.float() for b in (self.half_levels, self.offset, self.shift)
        )
        return torch.tanh(latent.float() + shift) * half_levels - offset

    def forward(self, latent: Tensor) -> Tensor:
        """Latent (..., D) -> code (..., D) in [-1, 1], with a straight-through gradient."""
        bounded = self.bound(latent)
        rounded = bounded + (bounded.round() - bounded).detach()
        return rounded / self.half_width

    def code_to_token(self, code: Tensor) -> Tensor:
        """Code (..., D) -> token (...), int64."""
        digits = (code.float() * self.half_width + self.half_width).round().long()
        return (digits * self.basis).sum(-1)

    def token_to_code(self, tokens: Tensor) -> Tensor:
        """Token (...) in [0, codebook_size) -> code (..., D), float32."""
        digits = (tokens.unsqueeze(-1) // self.basis) % self.levels
        return (digits - self.half_width) / self.half_width
