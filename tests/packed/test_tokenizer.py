"""The tokenizer as generation uses it decodes like the one that was trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nbp_core.checkpoint import save_model
from nbp_core.config.models import StageConfig, TokenizerConfig
from nbp_core.packed.tokenizer import NormedConv, tokenizer_for_decoding
from nbp_core.runtime import runtime
from nbp_core.tokenizer.conv import StreamState, Swish
from nbp_core.tokenizer.model import VideoTokenizer
from tests.support.models import build_tokenizer, save_pipeline, tokenizer_config

compiled = pytest.mark.skipif(runtime().instructions is None, reason="no kernel is compiled here")
WIDE = replace(
    tokenizer_config(),
    stages=(
        StageConfig(width=32, encoder_units=1, decoder_units=2, kernel=(1, 3, 3)),
        StageConfig(
            width=64, encoder_units=1, decoder_units=1, kernel=(1, 3, 3), second_kernel=(3, 1, 1)
        ),
        StageConfig(width=96, encoder_units=1, decoder_units=1, kernel=(3, 3, 3)),
    ),
    norm_groups=8,
)
"""With every kind of kernel, and widths that compiled kernels take."""


@pytest.fixture(autouse=True)
def all_threads() -> Iterator[None]:
    """Tests change the number of PyTorch's threads."""
    usual = torch.get_num_threads()
    yield
    torch.set_num_threads(usual)


def save(folder: Path, config: TokenizerConfig) -> Path:
    tokenizer = build_tokenizer(config=config)
    for layer in tokenizer.modules():
        if isinstance(layer, Swish):
            torch.nn.init.uniform_(layer.beta, 0.5, 1.5)
    save_model(folder, "tokenizer", config, tokenizer.state_dict())
    return folder


def tokens_of(config: TokenizerConfig, batch: int = 1, height: int = 4, width: int = 6) -> Tensor:
    torch.manual_seed(0)
    return torch.randint(0, config.codebook_size, (batch, 3, height, width))


@compiled
@pytest.mark.parametrize("is_half", [False, True])
def test_a_packed_decoder_decodes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_half: bool
) -> None:
    monkeypatch.setattr("nbp_core.packed.tokenizer.has_fast_bfloat16", lambda device: is_half)
    folder = save(tmp_path / "nano", WIDE)
    exact, packed = VideoTokenizer.from_pretrained(folder), tokenizer_for_decoding(folder)
    assert any(isinstance(layer, NormedConv) for layer in packed.modules())
    tokens = tokens_of(WIDE, batch=2)
    expected, found = exact.decode(tokens), packed.decode(tokens)
    assert expected.std() > 0.05
    if not is_half:
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
        return
    half = VideoTokenizer.from_pretrained(folder)
    half.decoder_layers.bfloat16()
    error = F.mse_loss(found, expected)
    assert 0 < error < 1.2 * F.mse_loss(half.decode(tokens), expected)


@compiled
def test_a_clip_is_decoded_alike_in_parts_in_a_batch_and_by_any_number_of_threads(
    tmp_path: Path,
) -> None:
    packed = tokenizer_for_decoding(save(tmp_path / "nano", WIDE))
    tokens = tokens_of(WIDE, height=8, width=8)
    whole = packed.decode(tokens)
    state: StreamState = {}
    parts = [packed.decode(tokens[:, i : i + 1], state) for i in range(3)]
    assert torch.equal(torch.cat(parts, dim=2), whole)
    torch.set_num_threads(1)
    assert torch.equal(packed.decode(tokens), whole)


def test_widths_that_no_kernel_takes_are_decoded_by_pytorch(tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path).parent / "nano"
    packed = tokenizer_for_decoding(folder)
    assert not any(isinstance(layer, NormedConv) for layer in packed.modules())
    tokens = tokens_of(packed.config)
    expected = VideoTokenizer.from_pretrained(folder).decode(tokens)
    assert F.mse_loss(packed.decode(tokens), expected) < 1e-4


def test_the_encoder_stays_in_float32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbp_core.packed.tokenizer.has_fast_bfloat16", lambda device: True)
    folder = save(tmp_path / "nano", WIDE)
    exact, packed = VideoTokenizer.from_pretrained(folder), tokenizer_for_decoding(folder)
    assert {x.dtype for x in packed.decoder_layers.parameters()} == {torch.bfloat16}
    clip = torch.rand(1, 3, 9, 32, 32)
    assert torch.equal(packed.encode(clip), exact.encode(clip))
