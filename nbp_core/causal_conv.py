"""Causal 3D convolution, residual unit, space/time down and up.

Shapes: B batch, C channels, T time, H height, W width; tensors are (B, C, T, H, W).
Each layer takes an optional StreamState and keeps there what it must remember of earlier frames, so
that a clip fed in pieces comes out as if fed whole. Source: MAGVIT-v2 (arXiv 2310.05737) as in the
released NBP tokenizer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from nbp_core.config import Size3

StreamState = dict[nn.Module, Tensor]


class CausalConv3d(nn.Module):
    """Convolution that never looks ahead: replicate padding, in time in front only."""

    def __init__(self, cin: int, cout: int, kernel: Size3, stride: Size3 = (1, 1, 1)) -> None:
        super().__init__()
        self.conv = nn.Conv3d(cin, cout, kernel, stride)
        kt, kh, kw = kernel
        self.space_pad = (kw // 2, kw // 2, kh // 2, kh // 2, 0, 0)
        self.time_pad = 2 * (kt // 2)

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        past = None if state is None else state.get(self)
        if past is None:
            x = F.pad(x, (*self.space_pad[:4], self.time_pad, 0), mode="replicate")
        else:
            x = F.pad(x, self.space_pad, mode="replicate")
            x = torch.cat([past, x], dim=2)
        if state is not None:
            state[self] = x[:, :, x.shape[2] - self.time_pad :]
        out: Tensor = self.conv(x)
        return out


class FrameNorm(nn.GroupNorm):
    """GroupNorm over each frame alone: time is folded into the batch, so nothing leaks ahead."""

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        folded = super().forward(rearrange(x, "b c t h w -> (b t) c h w"))
        return rearrange(folded, "(b t) c h w -> b c t h w", b=x.shape[0])


class Swish(nn.Module):
    """x * sigmoid(beta x) with a learnable beta per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.ones(1, channels, 1, 1, 1))

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        return x * torch.sigmoid(self.beta * x)


class ResidualUnit(nn.Module):
    """Norm, swish, conv, twice, beside a shortcut (1x1x1 where the width changes)."""

    def __init__(self, cin: int, cout: int, kernels: tuple[Size3, Size3], norm_groups: int) -> None:
        super().__init__()
        first, second = kernels
        self.body = nn.ModuleList(
            [
                FrameNorm(norm_groups, cin),
                Swish(cin),
                CausalConv3d(cin, cout, first),
                FrameNorm(norm_groups, cout),
                Swish(cout),
                CausalConv3d(cout, cout, second),
            ]
        )
        self.shortcut = CausalConv3d(cin, cout, (1, 1, 1)) if cin != cout else None

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        out = run_layers(self.body, x, state)
        return out + (x if self.shortcut is None else self.shortcut(x, state))


class Upsample(nn.Module):
    """Convolution to more channels, then depth-to-space in channel order (t, h, w, c).

    A stride of 2 in time makes 2n frames of n; the first of all is dropped, so 1 + n become 1 + 2n.
    """

    def __init__(self, cin: int, cout: int, kernel: Size3, stride: Size3) -> None:
        super().__init__()
        self.stride = stride
        t, h, w = stride
        self.conv = CausalConv3d(cin, cout * t * h * w, kernel)

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        is_start = state is None or self.conv not in state
        x = self.conv(x, state)
        p, q, r = self.stride
        x = rearrange(x, "b (p q r c) t h w -> b c (t p) (h q) (w r)", p=p, q=q, r=r)
        return x[:, :, p - 1 :] if is_start else x


def run_layers(layers: nn.ModuleList, x: Tensor, state: StreamState | None) -> Tensor:
    """One layer after the other, each with the state."""
    for layer in layers:
        x = layer(x, state)
    return x
