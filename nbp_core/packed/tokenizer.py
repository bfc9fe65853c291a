"""The tokenizer as generation uses it: its decoder in the fastest form that this device has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nbp_core.device import has_fast_bfloat16
from nbp_core.runtime import runtime
from nbp_core.tokenizer.conv import (
    CausalConv3d,
    FrameNorm,
    ResidualUnit,
    StreamState,
    Swish,
    as_frames,
)
from nbp_core.tokenizer.model import VideoTokenizer


def tokenizer_for_decoding(folder: str | Path, device: str = "cpu") -> VideoTokenizer:
    """Loads a tokenizer's folder; the decoder is in bfloat16 where the hardware has fast bfloat16.

    On a CPU with compiled kernels, norm, swish and padding before a convolution are one pass over
    the frames. The encoder stays as it is, in float32, since FSQ may round a less exact latent to
    another level. Raises CheckpointError as VideoTokenizer.from_pretrained does.
    """
    model = VideoTokenizer.from_pretrained(folder, device)
    if has_fast_bfloat16(torch.device(device)):
        model.decoder_layers.bfloat16()
    if device == "cpu" and runtime().instructions is not None:
        from nbp_core.packed.kernels.frames import FRAMES, normalize_frames

        model.decoder_layers = _packed(model.decoder_layers)
        normalize_frames(np.zeros(1, FRAMES).ctypes.data)  # compiled now, not at the first frame
    return model


def _packed(layers: nn.ModuleList) -> nn.ModuleList:
    """The layers, with each norm, swish and convolution in sequence as one.

    They stay apart where the number of channels is not a multiple of what the kernel takes at once.
    """
    from nbp_core.packed.kernels.simd.channels import CHANNELS

    packed: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, ResidualUnit):
            layer.body = _packed(layer.body)
        match [*packed[-2:], layer]:
            case [FrameNorm() as norm, Swish() as swish, CausalConv3d() as conv] if (
                norm.num_channels % CHANNELS == 0
            ):
                packed[-2:] = [NormedConv(norm, swish, conv)]
            case _:
                packed.append(layer)
    return nn.ModuleList(packed)


class NormedConv(nn.Module):
    """FrameNorm, Swish and CausalConv3d. A compiled pass over the frames computes the first two in
    float32, on one thread, and writes the padded input of the convolution."""

    weight: Tensor
    bias: Tensor
    beta: Tensor

    def __init__(self, norm: FrameNorm, swish: Swish, conv: CausalConv3d) -> None:
        super().__init__()
        from nbp_core.packed.kernels.rows import EPSILON

        assert norm.eps == EPSILON, "the kernel has the epsilon of all norms"
        self.num_groups = norm.num_groups
        self.conv = conv
        for name, values in (("weight", norm.weight), ("bias", norm.bias), ("beta", swish.beta)):
            numbers = values.detach().float().flatten().contiguous()
            self.register_buffer(name, numbers, persistent=False)

    def forward(self, x: Tensor, state: StreamState | None = None) -> Tensor:
        past, (left, _, top, _) = self.conv.time_pad, self.conv.space_pad
        batch, channels, length, height, width = x.shape
        size = (batch, past + length, height + 2 * top, width + 2 * left, channels)
        padded = x.new_empty(size)
        self._normalize(as_frames(x), padded, length)
        if past:
            earlier = None if state is None else state.get(self)
            padded[:, :past] = padded[:, past : past + 1] if earlier is None else earlier
            if state is not None:
                # A view would keep all frames in memory until the next latent frame.
                state[self] = padded[:, length:].clone()
        return self.conv.convolve(padded.permute(0, 4, 1, 2, 3))

    def _normalize(self, frames: Tensor, padded: Tensor, length: int) -> None:
        """Writes norm and swish of the frames (B T, C, H, W), with their edges, after the past
        frames of `padded` (B, past + T, H + 2 top, W + 2 left, C)."""
        from nbp_core.packed.kernels.frames import FRAMES, SCRATCH_NUMBERS, normalize_frames

        channels, height, width = frames.shape[1:]
        scratch = torch.empty(SCRATCH_NUMBERS * channels)
        left, _, top, _ = self.conv.space_pad
        fields = (  # in the order of FRAMES
            *(frames.data_ptr(), padded.data_ptr(), scratch.data_ptr(), len(padded), length),
            *(height, width, channels, self.num_groups, self.conv.time_pad, top, left),
            *(self.weight.data_ptr(), self.bias.data_ptr(), self.beta.data_ptr()),
            padded.itemsize,
        )
        job = np.array([fields], FRAMES)
        normalize_frames(job.ctypes.data)
