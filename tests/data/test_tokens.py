"""Token sets: the tokens that generation makes, known by tokenizer and data, and whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nbp_core.data.tokens import LABELS_FILE, TOKENS_FILE, TokenSet, encode_clips
from nbp_core.tokenizer.conv import CausalConv3d
from nbp_core.tokenizer.model import VideoTokenizer
from tests.support.models import build_pipeline, build_tokenizer


def clips(count: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 17, 128, 128, 3), dtype=np.uint8)


def test_training_tokens_are_those_of_generation() -> None:
    pipeline = build_pipeline()
    assert isinstance(pipeline.tokenizer, VideoTokenizer)
    frames = clips()
    labelled = [(clip, "wave", "") for clip in frames]
    found = encode_clips(pipeline.tokenizer, labelled, batch_size=1)
    for clip_THWC, tokens_thw in zip(frames, found.tokens_Nthw, strict=True):
        expected = pipeline.tokenizer.encode(pipeline.to_clip(clip_THWC))[0]
        assert np.array_equal(tokens_thw, expected.numpy())


def test_clips_are_encoded_in_float32() -> None:
    tokenizer = build_tokenizer()
    seen = set[torch.dtype]()
    for layer in tokenizer.encoder_layers.modules():
        if isinstance(layer, CausalConv3d):
            layer.register_forward_hook(lambda *call: seen.add(call[2].dtype))
    encode_clips(tokenizer, [(clip, "wave", "") for clip in clips(1)])
    assert seen == {torch.float32}


class ManyCodes:
    """Stands in for a tokenizer of more codes than uint16 holds."""

    def __init__(self) -> None:
        self.config = build_tokenizer().config

    def encode(self, clip_BCTHW: torch.Tensor) -> torch.Tensor:
        return torch.full((len(clip_BCTHW), 5, 16, 16), 100_000)


def test_large_codebooks_do_not_wrap(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = ManyCodes()
    monkeypatch.setattr(type(tokenizer.config), "codebook_size", property(lambda self: 200_000))
    found = encode_clips(tokenizer, [(clips(1)[0], "wave", "")])  # type: ignore[arg-type]
    assert (found.tokens_Nthw == 100_000).all()


def token_set() -> TokenSet:
    return TokenSet(np.zeros((2, 5, 16, 16), np.uint16), ["wave", "jump"], ["", ""])


def test_a_set_is_known_by_tokenizer_and_data(tmp_path: Path) -> None:
    token_set().save(tmp_path, "sha", "data")
    assert TokenSet.load(tmp_path, "other") is None
    assert TokenSet.load(tmp_path, "sha", "others") is None
    for source in ("data", None):
        found = TokenSet.load(tmp_path, "sha", source)
        assert found is not None
        assert found.actions == ["wave", "jump"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [LABELS_FILE, TOKENS_FILE]


@pytest.mark.parametrize(
    ("name", "data"),
    [(LABELS_FILE, b""), (LABELS_FILE, b"[]"), (LABELS_FILE, b"{}"), (TOKENS_FILE, b"cut")],
)
def test_a_broken_set_is_named_and_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, data: bytes
) -> None:
    token_set().save(tmp_path, "sha", "data")
    (tmp_path / name).write_bytes(data)
    assert TokenSet.load(tmp_path, "sha", "data") is None
    assert str(tmp_path) in caplog.text


@pytest.mark.parametrize(
    ("shape", "looks", "keys"),
    [
        ((3, 5, 4, 4), 2, None),
        ((2, 5, 4, 4), 1, None),
        ((), 2, None),
        ((2, 5, 4, 4), 2, [("up",) * 4, ("up",) * 3]),
        ((2, 5, 4, 4), 2, [("up",) * 4]),
    ],
)
def test_labels_of_other_tokens_are_not_taken(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    shape: tuple[int, ...],
    looks: int,
    keys: list[tuple[str, ...]] | None,
) -> None:
    TokenSet(np.zeros(shape, np.uint16), ["a", "a"], [""] * looks, keys).save(tmp_path, "sha")
    assert TokenSet.load(tmp_path, "sha") is None
    assert "cannot be read" in caplog.text
