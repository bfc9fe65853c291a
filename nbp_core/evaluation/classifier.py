"""A small network, trained on real clips, that recognises the action of a clip.

Shapes: N clips, B batch, C colour, T H W pixels, A actions.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor, nn

from nbp_core.checkpoint import load_model
from nbp_core.config.models import ClassifierConfig
from nbp_core.media.files import Frames
from nbp_core.tokenizer.interface import to_clip

BATCH = 16
"""Clips classified at once."""
CHANGE_GAIN = 4
"""Factor by which a stacked classifier multiplies the small changes between frames."""


def _convolution(cin: int, cout: int, kernel: tuple[int, int, int], stride: int) -> nn.Sequential:
    """A convolution over space or over time, whichever its kernel spans."""
    strides = (1, stride, stride) if kernel[0] == 1 else (stride, 1, 1)
    padding = (kernel[0] // 2, kernel[1] // 2, kernel[2] // 2)
    return nn.Sequential(
        nn.Conv3d(cin, cout, kernel, strides, padding, bias=False), nn.BatchNorm3d(cout), nn.SiLU()
    )


def _body(config: ClassifierConfig) -> tuple[list[nn.Sequential], int]:
    """(layers, number of features per clip); space and time are convolved alternately."""
    layers = [_convolution(3, config.widths[0], (1, 5, 5), 2)]
    length = config.num_frames
    for i, (cin, cout) in enumerate(zip(config.widths, config.widths[1:], strict=False)):
        layers.append(_convolution(cin, cout, (1, 3, 3), 2))
        layers.append(_convolution(cout, cout, (3, 1, 1), 1 + (i > 0)))
        length = (length + 1) // 2 if i else length
    return layers, length * config.widths[-1]


def _stacked_body(config: ClassifierConfig) -> list[nn.Sequential]:
    """Layers of a stacked classifier. The first keeps all pixels, since motion is one or two."""
    layers = [_convolution(3 * config.num_frames, config.widths[0], (1, 5, 5), 1)]
    for cin, cout in zip(config.widths, config.widths[1:], strict=False):
        layers.append(_convolution(cin, cout, (1, 3, 3), 2))
        layers.append(_convolution(cout, cout, (1, 3, 3), 1))
    return layers


class ActionClassifier(nn.Module):
    """Convolutions, averages over the frame, then one score per action.

    Space and time are convolved alternately, and the frames of the last stage are concatenated. A
    stacked classifier convolves space only, with all frames as channels.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        if config.stacked:
            layers, features = _stacked_body(config), 2 * config.widths[-1]
        else:
            layers, features = _body(config)
        self.body = nn.Sequential(*layers)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(features, len(config.actions))

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | torch.device = "cpu") -> Self:
        """Loads a model folder. Raises CheckpointError (a ValueError) with one sentence."""
        return load_model(Path(folder), ClassifierConfig, cls, device=device, dtype=torch.float32)

    def forward(self, clip_BCTHW: Tensor) -> Tensor:
        """Clip in [0, 1], of any length and side -> scores (B, A), before softmax."""
        chosen = torch.linspace(0, clip_BCTHW.shape[2] - 1, self.config.num_frames).round().long()
        frames = rearrange(clip_BCTHW[:, :, chosen], "b c t h w -> (b t) c h w")
        small = F.interpolate(frames, (self.config.side, self.config.side), mode="area")
        x = rearrange(2 * small - 1, "(b t) c h w -> b c t h w", t=self.config.num_frames)
        if self.config.stacked:
            changes = CHANGE_GAIN * (x[:, :, 1:] - x[:, :, :-1])
            x = rearrange(torch.cat([x[:, :, :1], changes], 2), "b c t h w -> b (t c) 1 h w")
        x = self.body(x.contiguous(memory_format=torch.channels_last_3d))
        pooled = x.mean((3, 4)).flatten(1)
        if self.config.stacked:
            pooled = torch.cat([pooled, x.amax((2, 3, 4))], 1)
        scores: Tensor = self.head(self.dropout(pooled))
        return scores

    @torch.inference_mode()
    def classify(self, frames_NTHWC: Frames) -> NDArray[np.int64]:
        """uint8 clips -> (N,) int64: index in config.actions of each clip's likeliest action."""
        device = self.head.weight.device
        found = []
        for start in range(0, len(frames_NTHWC), BATCH):
            clip = to_clip(frames_NTHWC[start : start + BATCH], device)
            found.append(self(clip).argmax(-1).cpu().numpy())
        return np.concatenate(found) if found else np.zeros(0, np.int64)

    def indices(self, actions: Sequence[str]) -> NDArray[np.int64]:
        """Indices of actions in config.actions. Raises ValueError for an unknown action."""
        unknown = sorted(set(actions) - set(self.config.actions))
        if unknown:
            raise ValueError(f"classifier {self.config.name!r} does not know {unknown[0]!r}")
        return np.array([self.config.actions.index(action) for action in actions])

    def accuracy(self, frames_NTHWC: Frames, actions: Sequence[str]) -> float:
        """The share of clips whose named action is recognised. Raises ValueError as `indices`."""
        return float(np.mean(self.classify(frames_NTHWC) == self.indices(actions)))
