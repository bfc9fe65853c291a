"""Causal 3D convolution, residual unit, space/time down and up.

Shapes: B batch, C channels, T time, H height, W width; tensors are (B, C, T, H, W).
Each layer takes an optional StreamState and stores there the earlier frames that it needs. A clip
processed in pieces then equals the clip processed whole. Source: MAGVIT-v2 (arXiv 2310.05737), as
in the released NBP tokenizer.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from nbp_core.config.shapes import Size3

StreamState = dict[nn.Module, Tensor]

_SPLIT_PIXELS = 1024
"""PyTorch normalises a frame of at least this many pixels with several threads, else with one."""


def as_frames(x: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B T, C, H, W), channels last in memory; a view where possible."""
    frames = rearrange(x, "b c t h w -> (b t) h w c").permute(0, 3, 1, 2)
    return frames.contiguous(memory_format=torch.channels_last)


def as_clips(frames: Tensor, batch: int) -> Tensor:
    """(B T, C, H, W) -> (B, C, T, H, W), a view."""
    clips = rearrange(frames.permute(0, 2, 3, 1), "(b t) h w c -> b t h w c", b=batch)
    return clips.permute(0, 4, 1, 2, 3)


class CausalConv3d(nn.Module):
    """3D convolution that sees no later frame: replicate padding, in time before the clip only.

    A kernel that spans one frame or one place runs as a 2D convolution, which is up to four times
    as fast as the same 3D convolution in PyTorch on a CPU. There, every other kernel does too.
    """

    def __init__(self, cin: int, cout: int, kernel: Size3, stride: Size3 = (1, 1, 1)) -> None:
        super().__init__()
        self.conv = nn.Conv3d(cin, cout, kernel, stride)
        kt, kh, kw = kernel
        self.space_pad = (kw // 2, kw // 2, kh // 2, kh // 2)
        self.time_pad = 2 * (kt // 2)

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        if self.time_pad:
            past = None if state is None else state.get(self)
            x = self._after(x[:, :, :1].expand(-1, -1, 2, -1, -1) if past is None else past, x)
        if state is not None:
            # A view would keep all of x in memory until the next latent frame.
            state[self] = x[:, :, x.shape[2] - self.time_pad :].clone()
        return self.convolve(self._padded(x))

    def convolve(self, x: Tensor) -> Tensor:
        """The convolution of clips that are already padded in time and space."""
        kt, kh, kw = self.conv.kernel_size
        weight, bias = self.conv.weight, self.conv.bias
        if self.conv.kernel_size == self.conv.stride == (1, 1, 1):
            # As a matrix product, whose sums do not depend on the number of threads.
            pixels = F.linear(x.permute(0, 2, 3, 4, 1), weight.flatten(1), bias)
            return pixels.permute(0, 4, 1, 2, 3)
        if self.conv.stride == (1, 1, 1) and kt == 1:
            frames = F.conv2d(as_frames(x), weight[:, :, 0], bias)
            return as_clips(frames, x.shape[0])
        if self.conv.stride == (1, 1, 1) and kh == kw == 1:
            lines = rearrange(x, "b c t h w -> b t (h w) c").permute(0, 3, 1, 2)
            out = F.conv2d(lines, weight[..., 0], bias)
            return rearrange(out, "b c t (h w) -> b c t h w", w=x.shape[4])
        if x.device.type == "cpu":
            return self._stacked(x)
        whole: Tensor = self.conv(x)
        return whole

    def _stacked(self, x: Tensor) -> Tensor:
        """The convolution of padded clips as a 2D one, over frames that hold in their channels all
        frames that the kernel sees at once.

        PyTorch's 3D convolution of some sizes rounds differently for each number of threads, and
        takes up to five times as long.
        """
        kt, (step, *stride) = self.conv.kernel_size[0], self.conv.stride
        end = x.shape[2] - kt + 1
        seen = [x[:, :, i : i + end : step].permute(0, 2, 3, 4, 1) for i in range(kt)]
        frames = rearrange(torch.cat(seen, dim=-1), "b t h w c -> (b t) h w c").permute(0, 3, 1, 2)
        weight = torch.cat(self.conv.weight.unbind(2), dim=1)
        return as_clips(F.conv2d(frames, weight, self.conv.bias, stride), x.shape[0])

    @staticmethod
    def _after(past: Tensor, x: Tensor) -> Tensor:
        """`past` and `x` concatenated in time, joined in channels-last memory order."""
        joined = torch.cat([past.permute(0, 2, 3, 4, 1), x.permute(0, 2, 3, 4, 1)], dim=1)
        return joined.permute(0, 4, 1, 2, 3)

    def _padded(self, x: Tensor) -> Tensor:
        """Clips with their spatial edges repeated."""
        if not any(self.space_pad):
            return x
        return as_clips(F.pad(as_frames(x), self.space_pad, mode="replicate"), x.shape[0])


class FrameNorm(nn.GroupNorm):
    """GroupNorm over each frame alone: time is part of the batch, so no later frame is seen.

    On a CPU the result does not depend on the number of threads, unless gradients are recorded.
    """

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        frames = as_frames(x)
        normed = super().forward(_whole_frames_per_thread(frames))
        return as_clips(normed[: len(frames)], x.shape[0])


def _whole_frames_per_thread(frames: Tensor) -> Tensor:
    """The frames, padded with copies so that their number is a multiple of that of threads.

    PyTorch's GroupNorm splits the pixels of all large frames evenly among its threads. If two
    threads share a frame, they sum it in another order than one thread, and the sum is rounded
    differently. With the copies, each thread has whole frames.
    """
    is_split = frames.device.type == "cpu" and frames[0, 0].numel() >= _SPLIT_PIXELS
    missing = -len(frames) % torch.get_num_threads()
    if not is_split or not missing or torch.is_grad_enabled():
        return frames
    again = frames[torch.arange(missing) % len(frames)]
    return torch.cat([frames, again])


class Swish(nn.Module):
    """x * sigmoid(beta x) with a learnable beta per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.ones(1, channels, 1, 1, 1))

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        return x * torch.sigmoid(self.beta * x)


class ResidualUnit(nn.Module):
    """Twice (norm, swish, conv), plus a shortcut: a 1x1x1 convolution if the width changes."""

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

    A stride of 2 in time doubles the frames and drops the clip's first: 1 + n become 1 + 2n.
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
        # Channels last, so that the copy moves whole pixels.
        pixels = rearrange(x, "b (p q r c) t h w -> b (t p) (h q) (w r) c", p=p, q=q, r=r)
        pixels = pixels.contiguous()
        x = pixels.permute(0, 4, 1, 2, 3)
        return x[:, :, p - 1 :] if is_start else x


def run_layers(layers: nn.ModuleList, x: Tensor, state: StreamState | None) -> Tensor:
    """Applies the layers in order. Each receives the same stream state."""
    for layer in layers:
        x = layer(x, state)
    return x
