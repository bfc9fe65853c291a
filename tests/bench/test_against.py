import importlib.util
from dataclasses import replace

import pytest
import torch

from nbp_core.bench.against import hugging_face, released
from nbp_core.bench.against.released import ReleasedSampler, filtered_logits
from nbp_core.cli.main import main
from nbp_core.config.presets import PAPER_PRESETS
from nbp_core.config.sampling import SamplingConfig
from nbp_core.packed.formats import formats_on
from nbp_core.sampling.filters import filtered_probs
from tests.support.models import CODES, build_transformer, transformer_config

NEAR = 2e-4


def test_without_transformers_one_sentence_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["bench", "--device", "cpu", "--against", "transformers"]) == 2
    assert "pip install --group against" in capsys.readouterr().err


@pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)
@pytest.mark.slow
def test_the_same_model_is_timed_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    little = replace(hugging_face.SHAPES["small"], num_layers=1, width=32, num_heads=2)
    monkeypatch.setitem(hugging_face.SHAPES, "small", little)
    found = hugging_face.compare("small", "float32", num_tokens=4, rounds=1)
    assert found.ratio == pytest.approx(found.their_ms / found.our_ms)


@pytest.mark.parametrize("block_len", [1, 16])
def test_the_released_procedure_computes_the_models_logits(block_len: int) -> None:
    shape = (1, 1, block_len)
    model = build_transformer(transformer_config("plain", block_shape=shape, modern=False))
    tokens_BL = torch.randint(0, CODES, (2, 96), generator=torch.Generator().manual_seed(3))
    sampler = ReleasedSampler(model, block_len, SamplingConfig())
    parts = [tokens_BL[:, :64], *torch.split(tokens_BL[:, 64:], block_len, 1)]
    found = torch.cat([sampler.logits(part) for part in parts], 1)
    blocks = torch.arange(96) // block_len
    expected = model(tokens_BL, blocks[:, None] >= blocks)
    assert (found - expected).abs().max() < NEAR * expected.abs().max()


@pytest.mark.parametrize(("top_k", "top_p"), [(16_000, 0.9), (7, 1.0), (20, 0.5), (1, 0.9)])
def test_the_released_procedure_samples_from_the_same_distribution(
    top_k: int, top_p: float
) -> None:
    sampling = SamplingConfig(top_k=top_k, top_p=top_p)
    logits = 2 * torch.randn(5, 300, generator=torch.Generator().manual_seed(1))
    found = filtered_logits(logits.clone(), sampling).softmax(-1)
    torch.testing.assert_close(found, filtered_probs(logits, sampling))


def test_the_released_procedure_continues_block_by_block() -> None:
    model = build_transformer(transformer_config("plain", block_shape=(1, 1, 16), modern=False))
    known = torch.randint(0, CODES, (1, 64), generator=torch.Generator().manual_seed(3))
    # The most likely token alone is left, so that both ways draw the same.
    sampler = ReleasedSampler(model, 16, SamplingConfig(top_k=1))
    first = sampler.step(known)
    second = sampler.step(first)
    blocks = torch.arange(80) // 16
    whole = model(torch.cat([known, first], 1), blocks[:, None] >= blocks)
    assert first.equal(whole[:, 48:64].argmax(-1))
    assert second.equal(whole[:, 64:].argmax(-1))


@pytest.mark.slow
def test_both_blocks_are_timed_beside_the_released_procedure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    little = replace(PAPER_PRESETS["XL"], num_layers=1, width=128, num_heads=2)
    monkeypatch.setitem(PAPER_PRESETS, "XL", little)
    found = released.compare("XL", formats_on("cpu")[0], torch.bfloat16, num_steps=2, rounds=1)
    assert [row.block for row in found] == ["1x1x16", "1x1x1"]
    assert all(row.ratio == row.their_ms / row.our_ms > 0 for row in found)
    assert {row.their_dtype for row in found} == {"bfloat16"}
