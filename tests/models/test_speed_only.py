from pathlib import Path

import numpy as np
import pytest
import torch

from nbp_core import SamplingConfig, VideoPipeline
from nbp_core.config.models import TransformerConfig
from nbp_core.config.presets import PAPER_PRESETS, RANDOM_WEIGHTS
from nbp_core.models.speed_only import SpeedOnlyTokenizer
from nbp_core.transformer.model import num_parameters
from tests.support.models import build_tokenizer, save_pipeline

SMALL = TransformerConfig(
    name="small", num_layers=1, width=32, num_heads=1, layout="plain", codebook_size=64_000
)


def test_a_random_model_makes_marked_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAPER_PRESETS, "XL", SMALL)
    folder = save_pipeline(tmp_path).parent / "nano"
    pipeline = VideoPipeline.speed_only("XL", folder, "cpu")
    assert RANDOM_WEIGHTS in pipeline.name
    assert pipeline.block_shapes == ((1, 1, 16),)
    frames = np.zeros((5, 128, 128, 3), np.uint8)
    result = pipeline.generate(frames_THWC=frames, sampling=SamplingConfig(top_k=10))
    assert result.steps == 48
    assert result.manifest["weights"] == RANDOM_WEIGHTS
    assert result.tokens_thw[2:].max() > 60
    with pytest.raises(ValueError, match="cannot start from an action: choose first frames"):
        pipeline.generate()


def test_the_notice_is_on_every_frame() -> None:
    marked = SpeedOnlyTokenizer(build_tokenizer()).decode(torch.zeros(1, 3, 16, 16).long())
    plain = build_tokenizer().decode(torch.zeros(1, 3, 16, 16).long())
    differs = (marked != plain).any(1)[0]
    assert differs[:, :32].float().mean() > 0.5
    assert not differs[:, 64:].any()
    assert (marked == 1).any(1).flatten(2).any(2).all()


def test_another_preset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="preset 'XS' is not one of XL, XXL, 3B"):
        VideoPipeline.speed_only("XS", tmp_path, "cpu")


def test_too_large_a_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbp_core.device.free_bytes", lambda device: 10**9)
    folder = save_pipeline(tmp_path).parent / "nano"
    with pytest.raises(ValueError, match=r"3B needs (8|16)\.\d GB of memory and 1\.0 GB are free"):
        VideoPipeline.speed_only("3B", folder, "cpu")
    assert num_parameters(PAPER_PRESETS["3B"]) == pytest.approx(4.03e9, rel=0.01)
