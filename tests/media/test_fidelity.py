"""PSNR and SSIM against their definitions, and what a reconstruction is measured by."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nbp_core.evaluation.figures import Clips, fidelity_figures
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.reconstruction import reconstruct
from nbp_core.media.fidelity import Frames, fidelity, psnr, ssim
from nbp_core.models.speed_only import SpeedOnlyTokenizer
from nbp_core.tokenizer.model import VideoTokenizer
from nbp_core.train.tokenizer import psnr as tokenizer_psnr
from tests.support.models import CODES, build_pipeline


def noise(count: int, side: int = 32) -> Frames:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), np.uint8)


def test_psnr_is_that_of_the_mean_squared_error() -> None:
    grey = np.full((2, 32, 32, 3), 100, np.uint8)
    other = grey.copy()
    other[0] += 10  # a squared error of 100 in half of the pixels
    assert psnr(grey, other) == pytest.approx(10 * math.log10(255**2 / 50))
    found = fidelity(grey, other)
    assert found.psnr == psnr(grey, other), "of all pixels, not the mean of the frames'"
    assert found.psnr_per_frame[0] == pytest.approx(10 * math.log10(255**2 / 100))
    assert found.psnr_per_frame[1] == math.inf


def test_equal_clips_count_as_sixty_decibel_in_means() -> None:
    grey = np.full((2, 2, 16, 16, 3), 100, np.uint8)
    made = grey.copy()
    made[0] += 10
    both = [Clips(name="clips", frames_NTHWC=frames, actions=["a", "a"]) for frames in (grey, made)]
    (mean,) = (f.value for f in fidelity_figures(*both) if f.metric == "PSNR")
    assert mean == pytest.approx((10 * math.log10(255**2 / 100) + 60) / 2)
    clip = torch.full((1, 3, 2, 16, 16), 0.5)
    assert tokenizer_psnr(clip, clip).tolist() == [60.0]


def test_ssim_follows_its_formula_on_flat_pictures() -> None:
    dark, light = np.full((16, 16, 3), 60, np.uint8), np.full((16, 16, 3), 120, np.uint8)
    c1 = (0.01 * 255) ** 2
    expected = (2 * 60 * 120 + c1) / (60**2 + 120**2 + c1)
    assert ssim(dark, light) == pytest.approx(expected, rel=1e-4)


def test_ssim_of_a_clip_is_the_mean_of_its_frames() -> None:
    clip = noise(3)
    other = clip.copy()
    other[1] = 255 - other[1]
    found = fidelity(clip, other)
    assert found.ssim_per_frame[0] == found.ssim_per_frame[2] == pytest.approx(1)
    assert found.ssim_per_frame[1] < 0
    assert found.ssim == pytest.approx(np.mean(found.ssim_per_frame))


def test_clips_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        fidelity(noise(2), noise(3))


@pytest.fixture(scope="module")
def pipeline() -> VideoPipeline:
    return build_pipeline()


def test_a_reconstruction_counts_codes_and_bits(pipeline: VideoPipeline) -> None:
    clip = noise(5, 128)
    made = pipeline.reconstruct(clip)
    assert np.array_equal(made.original_THWC, clip)
    assert made.frames_THWC.shape == clip.shape
    assert made.tokens_thw.shape == (2, 16, 16)
    assert made.num_codes == len(set(made.tokens_thw.flat)) > 1
    assert made.bits == pytest.approx(512 * math.log2(CODES))
    assert made.raw_bits == 5 * 128 * 128 * 24
    assert made.ratio == pytest.approx(made.raw_bits / made.bits)
    assert made.fidelity == fidelity(clip, made.frames_THWC)
    assert made.encode_s > 0 < made.decode_s


def test_a_reconstruction_cuts_and_resizes_but_wants_1_plus_4n_frames(
    pipeline: VideoPipeline,
) -> None:
    made = pipeline.reconstruct(np.zeros((1, 90, 200, 3), np.uint8))
    assert made.original_THWC.shape == (1, 128, 128, 3)
    with pytest.raises(ValueError, match=r"1 \+ 4n frames, not 4"):
        pipeline.reconstruct(noise(4, 128))


def test_a_borrowed_tokenizer_is_not_measured() -> None:
    inner = build_pipeline().tokenizer
    assert isinstance(inner, VideoTokenizer)
    with pytest.raises(ValueError, match="untrained and has no tokenizer"):
        reconstruct(SpeedOnlyTokenizer(inner), torch.zeros(1, 3, 1, 128, 128))
