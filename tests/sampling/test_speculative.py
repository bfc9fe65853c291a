"""Speculative decoding draws from next-token prediction's distribution, whatever the drafts."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from scipy.stats import chisquare

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import Size3
from nbp_core.sampling.filters import filtered_probs
from nbp_core.sampling.speculative import SpeculativeSampler, verify
from nbp_core.transformer.attention import KVCache
from nbp_core.transformer.model import BlockTransformer
from tests.support.models import build_transformer, transformer_config

SAMPLING = SamplingConfig(temperature=0.9, top_p=0.99)
CLIPS = 200


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_verified_token_is_distributed_as_wanted_whatever_was_drafted() -> None:
    p, q = torch.tensor([0.5, 0.2, 0.3, 0.0]), torch.tensor([0.1, 0.6, 0.0, 0.3])
    noise = rng()
    counts = torch.zeros(4)
    kept = 0
    for token in torch.multinomial(q, 2000, replacement=True, generator=noise):
        count, other = verify(token[None], q[None], p[None], noise)
        kept += count
        counts[token if other is None else other] += 1
    assert counts[3] == 0
    assert chisquare(counts[:3].numpy(), 2000 * p[:3].double().numpy()).pvalue > 0.01
    assert kept / 2000 == pytest.approx(torch.minimum(p, q).sum().item(), abs=0.04)


def test_all_of_a_draft_is_kept_when_both_agree() -> None:
    probs = torch.rand(9, 5, generator=rng()).softmax(-1)
    draft = torch.arange(9) % 5
    assert verify(draft, probs, probs, rng()) == (9, None)


@pytest.fixture(scope="module")
def model() -> BlockTransformer:
    config = replace(transformer_config(grid=(1, 2, 2), block_shape=(1, 1, 2)), codebook_size=2)
    return build_transformer(config)


def joint(model: BlockTransformer, shape: Size3) -> torch.Tensor:
    """(16,) the exact probability of every clip of four tokens of two codes, in such blocks."""
    clips = torch.tensor(list(itertools.product((0, 1), repeat=4))).view(16, 1, 2, 2)
    layout = sequence_layout(model.config, shape)
    conditions = torch.full((16, 1), model.config.first_condition_id)
    features = model.features(layout.input_ids(clips, conditions), layout)[:, layout.prefix_len :]
    probs = filtered_probs(model.video_logits(features), SAMPLING)
    targets = layout.targets(clips)[:, layout.prefix_len :]
    return probs.gather(-1, targets[..., None]).squeeze(-1).double().prod(1)


def decode(model: BlockTransformer, noise: torch.Generator) -> tuple[list[int], SpeculativeSampler]:
    sampler = SpeculativeSampler(model, (1, 1, 2), 1, SAMPLING, noise)
    conditions = torch.full((1, 1), model.config.first_condition_id)
    tokens = torch.zeros(1, 1, 2, 2, dtype=torch.int64)
    made = [step.tokens_Bn[0] for step in sampler.stream(tokens, 0, conditions)]
    return torch.cat(made).tolist(), sampler


def test_clips_are_distributed_as_next_token_prediction(model: BlockTransformer) -> None:
    by_token, by_block = joint(model, (1, 1, 1)), joint(model, (1, 1, 2))
    assert by_token.sum() == pytest.approx(1) == by_block.sum()
    counts = torch.zeros(16)
    noise = rng(1)
    for _ in range(CLIPS):
        clip, _ = decode(model, noise)
        counts[int("".join(map(str, clip)), 2)] += 1
    likely = CLIPS * by_token > 2  # the chi-square test wants a few of each
    observed = torch.cat([counts[likely], counts[~likely].sum()[None]]).double()

    def p_value(probs: torch.Tensor) -> float:
        merged = torch.cat([probs[likely], probs[~likely].sum()[None]])
        some = merged > 0
        expected = CLIPS * merged[some] / merged[some].sum()
        return float(chisquare(observed[some].numpy(), expected.numpy()).pvalue)

    assert p_value(by_token) > 0.01
    assert p_value(by_block) < 1e-4, "a test that drafts alone would pass shows nothing"


@pytest.mark.parametrize("known", [0, 32])
def test_greedy_decoding_is_that_of_next_token_prediction(known: int) -> None:
    model = build_transformer(transformer_config(grid=(3, 4, 8), block_shape=(1, 1, 8)))
    sampling = SamplingConfig(temperature=0)
    tokens = torch.arange(96).view(1, 3, 4, 8) % 60
    conditions = torch.full((1, 1), model.config.first_condition_id)
    sampler = SpeculativeSampler(model, (1, 1, 8), 3, sampling, rng())
    made = [tokens.flatten()[:known]]
    for step in sampler.stream(tokens, known, conditions):
        assert step.first == sum(map(len, made))
        made.append(step.tokens_Bn[0])
    whole = torch.cat(made)
    layout = sequence_layout(model.config, (1, 1, 1))
    ids = layout.input_ids(whole.view(1, 3, 4, 8), conditions)
    best = model.video_logits(model.features(ids, layout)[0, layout.prefix_len :]).argmax(-1)
    assert torch.equal(whole[known:], best[known:])
    tally = sampler.tally
    assert tally.tokens == 96 - known
    assert tally.drafts == (96 - max(known, 8)) // 8
    assert tally.drafted == 8 * tally.drafts
    assert 0 <= tally.acceptance <= 1
    assert tally.verifications <= tally.tokens


def test_nothing_is_read_that_was_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_transformer(transformer_config(grid=(2, 4, 4), block_shape=(1, 1, 4)))
    tokens = torch.zeros(1, 2, 4, 4, dtype=torch.int64)
    conditions = torch.full((1, 1), model.config.first_condition_id)

    def clip() -> list[int]:
        sampler = SpeculativeSampler(model, (1, 1, 4), 2, SAMPLING, rng())
        steps = sampler.stream(tokens.clone(), 0, conditions)
        return torch.cat([step.tokens_Bn[0] for step in steps]).tolist()

    expected, new_cache = clip(), model.new_cache

    def unwritten(batch: int, capacity: int) -> KVCache:
        cache = new_cache(batch, capacity)
        cache.keys.fill_(torch.nan)
        cache.values.fill_(torch.nan)
        return cache

    monkeypatch.setattr(model, "new_cache", unwritten)
    assert clip() == expected


def test_only_an_elastic_model_and_stretches_of_rows_can_draft(model: BlockTransformer) -> None:
    hybrid = build_transformer(transformer_config("hybrid"))
    with pytest.raises(ValueError, match="cannot predict both"):
        SpeculativeSampler(hybrid, (1, 1, 16), 5, SAMPLING, rng())
    wide = build_transformer(transformer_config(grid=(1, 4, 4), block_shape=(1, 1, 4)))
    with pytest.raises(ValueError, match="parts of rows"):
        SpeculativeSampler(wide, (1, 2, 2), 1, SAMPLING, rng())
