"""How similar two clips are: PSNR and SSIM of each frame and of the whole clip. Uses no torch.

PSNR of a clip is computed from the mean squared error over all its pixels; SSIM of a clip is the
mean over its frames. Both are of 8-bit RGB; SSIM has the Gaussian window of Wang et al., 2004.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Frames = NDArray[np.uint8]

MOST_PSNR = 60.0
"""dB that frames count as at most, also equal ones, in means and where JSON has no infinity: the
limit of libvmaf for 8 bits."""
_PEAK = 255
_WANG_2004: dict[str, Any] = {
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
    "data_range": _PEAK,
    "channel_axis": -1,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fidelity:
    """The similarity of a clip to the original. PSNR is in dB, infinite for equal pictures."""

    psnr: float
    ssim: float
    psnr_per_frame: tuple[float, ...]
    ssim_per_frame: tuple[float, ...]


def psnr(original: Frames, other: Frames) -> float:
    """Peak signal-to-noise ratio in dB of frames or of a whole clip."""
    # Imported when first needed: scipy, which comes with it, takes a second to load.
    from skimage.metrics import peak_signal_noise_ratio

    with np.errstate(divide="ignore"):  # of equal pictures
        return float(peak_signal_noise_ratio(original, other, data_range=_PEAK))  # type: ignore[no-untyped-call]


def limited_psnr(original: Frames, other: Frames) -> float:
    """As psnr, at most MOST_PSNR."""
    return min(psnr(original, other), MOST_PSNR)


def ssim(original_HWC: Frames, other_HWC: Frames) -> float:
    """Structural similarity of two frames, 1 for equal ones."""
    from skimage.metrics import structural_similarity

    return float(structural_similarity(original_HWC, other_HWC, **_WANG_2004))  # type: ignore[no-untyped-call]


def fidelity(original_THWC: Frames, other_THWC: Frames) -> Fidelity:
    """PSNR and SSIM of a clip. Raises ValueError for clips of different sizes."""
    if original_THWC.shape != other_THWC.shape:
        raise ValueError(
            f"clips of {original_THWC.shape} and {other_THWC.shape} cannot be compared"
        )
    pairs = list(zip(original_THWC, other_THWC, strict=True))
    ssim_per_frame = tuple(ssim(a, b) for a, b in pairs)
    return Fidelity(
        psnr=psnr(original_THWC, other_THWC),
        ssim=float(np.mean(ssim_per_frame)),
        psnr_per_frame=tuple(psnr(a, b) for a, b in pairs),
        ssim_per_frame=ssim_per_frame,
    )
