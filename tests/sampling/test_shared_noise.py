"""Every way to draw a block is exact in what it claims, and the paper's stays the default."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.sampling import METHODS, SamplingConfig
from nbp_core.sampling.decoder import Decoder
from nbp_core.sampling.drawing import drawing
from nbp_core.sampling.filters import filtered_probs
from nbp_core.sampling.sampler import Sampler
from nbp_core.sampling.shared_noise import SharedNoise
from nbp_core.transformer.model import BlockTransformer
from tests.support.models import CODES, build_pipeline, build_transformer, transformer_config

LOGITS = torch.tensor([2.0, 1.5, 1.0, 0.0, -1.0])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shares(tokens: Tensor, count: int) -> Tensor:
    return torch.bincount(tokens.flatten(), minlength=count) / tokens.numel()


def test_the_filtered_distribution_is_what_the_paper_draws_from() -> None:
    config = SamplingConfig(temperature=0.7, top_k=4, top_p=0.9)
    probs = filtered_probs(LOGITS, config)
    assert probs.sum() == pytest.approx(1)
    draw = drawing(config, [rng()], 4)
    tokens = draw(LOGITS.expand(1, 40_000, 5), torch.zeros(40_000, dtype=torch.int64))
    torch.testing.assert_close(shares(tokens, 5), probs, atol=0.01, rtol=0)
    greedy = filtered_probs(LOGITS, SamplingConfig(temperature=0))
    assert greedy.tolist() == [1, 0, 0, 0, 0]


def test_shared_noise_draws_each_token_from_the_papers_distribution() -> None:
    config = SamplingConfig(method="shared-noise", temperature=0.8, top_k=4, top_p=0.95)
    draw = SharedNoise(config, rng(), 30_000)
    tokens = draw(LOGITS.expand(1, 30_000, 5), torch.arange(30_000))
    torch.testing.assert_close(shares(tokens, 5), filtered_probs(LOGITS, config), atol=0.01, rtol=0)


def test_shared_noise_repeats_over_time_and_differs_over_space() -> None:
    draw = SharedNoise(SamplingConfig(method="shared-noise"), rng(), 16)
    logits = torch.randn(2, 16, 60)
    first = draw(logits, torch.arange(16))
    assert torch.equal(draw(logits, torch.arange(16) + 32), first)
    assert not torch.equal(first[0], draw(logits[:1].expand(2, -1, -1), torch.arange(16))[1])
    flat = SharedNoise(SamplingConfig(method="shared-noise", top_p=1), rng(), 16)
    assert len(set(flat(torch.zeros(1, 16, 60), torch.arange(16))[0].tolist())) > 5


@pytest.fixture(scope="module")
def model() -> BlockTransformer:
    config = transformer_config(grid=(3, 4, 4), block_shape=(1, 4, 4))
    return build_transformer(config)


def run(model: BlockTransformer, method: str, guided: bool = False, known: int = 16) -> Tensor:
    layout = sequence_layout(model.config)
    sampling = SamplingConfig(method=method, guidance_scale=2.0 if guided else 1.0)
    sampler = Sampler(Decoder(model), layout, sampling, [rng(5), rng(6)])
    tokens = torch.arange(2 * 48).view(2, 3, 4, 4) % CODES
    first = model.config.first_condition_id
    conditions = torch.tensor([[first], [first + 1]])
    nulls = torch.full((2, 1), first + 3) if guided else None
    made = [tokens.flatten(1)[:, :known]]
    for step in sampler.stream(tokens, known, conditions, nulls):
        assert step.first == sum(part.shape[1] for part in made)
        made.append(step.tokens_Bn)
    return torch.cat(made, 1)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("guided", "known"), [(False, 16), (True, 16), (False, 0)])
def test_every_method_fills_the_clip_and_repeats(
    model: BlockTransformer, method: str, guided: bool, known: int
) -> None:
    tokens = run(model, method, guided, known)
    assert tokens.shape == (2, 48)
    assert torch.equal(tokens, run(model, method, guided, known))


def test_the_paper_is_the_default_and_an_unknown_method_is_refused() -> None:
    assert SamplingConfig().method == "paper"
    with pytest.raises(ValueError, match=r"method must be one of paper, shared-noise, not 'best'"):
        SamplingConfig(method="best")


def test_a_pipeline_takes_the_method_and_says_so_in_its_manifest() -> None:
    pipeline = build_pipeline()
    frame = torch.zeros(1, 128, 128, 3, dtype=torch.uint8).numpy()
    sampling = SamplingConfig(method="shared-noise", block_shape=(1, 16, 16))
    made = pipeline.generate("door-open", frame, 5, sampling)
    assert made.manifest["sampling"]["method"] == "shared-noise"
    paper = pipeline.generate("door-open", frame, 5, SamplingConfig(block_shape=(1, 16, 16)))
    assert (made.tokens_thw[1] != paper.tokens_thw[1]).any()
