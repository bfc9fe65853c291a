"""A second look: what a draft is in a sequence, in training and in sampling."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nbp_core.blocks.sequences import SequenceLayout, sequence_layout
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import NO_TOKEN, Size3
from nbp_core.sampling.best_block import sampler_of
from nbp_core.sampling.sampler import Sampler
from nbp_core.sampling.second_look import SecondLookSampler, draft_layout, least_likely, masked
from nbp_core.transformer.model import BlockTransformer
from tests.support.models import CODES, build_transformer, transformer_config

LEVELS = (5, 4, 3)
CONFIG = replace(transformer_config(grid=(3, 4, 4), block_shape=(1, 4, 4)), second_look=True)
TOKENS = torch.arange(2 * 48).view(2, 3, 4, 4) * 7 % CODES
CONDITIONS = torch.tensor([[CONFIG.first_condition_id], [CONFIG.first_condition_id + 1]])


@pytest.fixture(scope="module")
def model() -> BlockTransformer:
    return build_transformer(CONFIG)


def layout_of(shape: Size3 = (1, 4, 4)) -> SequenceLayout:
    return sequence_layout(CONFIG, shape)


def made(
    model: BlockTransformer, method: str, strength: float | None = None, guidance: float = 1.0
) -> Tensor:
    sampling = SamplingConfig(method=method, strength=strength, guidance_scale=guidance)
    rng = torch.Generator().manual_seed(3)
    sampler = sampler_of(model, layout_of(), sampling, rng, LEVELS)
    nulls = None if guidance == 1 else torch.full((2, 1), CONFIG.first_condition_id + 3)
    steps = sampler.stream(TOKENS, 16, CONDITIONS, nulls)
    return torch.cat([step.tokens_Bn for step in steps], 1)


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 1, 4), (2, 1, 2)])
def test_a_draft_stands_where_it_predicts_and_sees_what_its_block_was_predicted_from(
    shape: Size3,
) -> None:
    layout = layout_of(shape)
    size = layout.blocks.block_len
    for draft in range(1, layout.blocks.num_blocks):
        found = draft_layout(layout, draft)
        start = found.length - size
        assert torch.equal(found.place_L[start:], layout.blocks.places_NS[draft])
        assert torch.equal(found.target_place_L[start:], layout.blocks.places_NS[draft])
        assert torch.equal(found.target_L[:start], layout.target_L[:start])
        assert torch.equal(found.source_L[:start], layout.source_L[:start])
        assert torch.equal(found.mask_LL[:start, :start], layout.mask_LL[:start, :start])
        assert found.mask_LL[start:].all()
        assert not found.mask_LL[:start, start:].any()
        # The last position before the draft is what predicts the block's last token.
        assert found.target_L[start - 1] == (draft + 1) * size - 1
        assert found.targets(TOKENS)[0, start:].tolist() == (
            layout.blocks.to_blocks(TOKENS)[0, draft].tolist()
        )
    assert (found.target_L != NO_TOKEN).sum() == 48 + size


@pytest.mark.parametrize("draft", [0, 3])
def test_blocks_that_are_never_predicted_whole_are_no_drafts(draft: int) -> None:
    with pytest.raises(ValueError, match="cannot be a draft"):
        draft_layout(layout_of(), draft)


def test_a_plain_sequence_can_end_in_a_draft_too() -> None:
    config = transformer_config("plain", grid=(3, 4, 4), block_shape=(1, 4, 4))
    found = draft_layout(sequence_layout(config), 2)
    assert found.target_L.tolist() == [*range(16, 48), *range(32, 48)]


def test_the_least_likely_tokens_are_masked_and_special_ids_stand_in() -> None:
    logits = torch.zeros(1, 4, 3)
    logits[0, :, 0] = torch.tensor([3.0, 1.0, 2.0, 0.0])
    is_masked = least_likely(logits, torch.zeros(1, 4, dtype=torch.int64), 0.5)
    assert is_masked.tolist() == [[False, True, False, True]]
    assert masked(torch.full((1, 4), 99), is_masked).tolist() == [[99, 1, 99, 3]]


def test_nothing_drawn_again_is_the_papers_sampling(model: BlockTransformer) -> None:
    paper = made(model, "paper")
    assert torch.equal(made(model, "second-look", 0.0), paper)
    assert not torch.equal(made(model, "second-look", 0.5), paper)
    assert torch.equal(made(model, "second-look"), made(model, "second-look", 0.5))
    assert made(model, "second-look", guidance=2.0).shape == paper.shape


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_a_look_reads_what_one_masked_forward_over_the_draft_reads(
    model: BlockTransformer, guidance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sampler's look equals the forward that training makes; later blocks see no draft."""
    looks: list[tuple[Tensor, Tensor, Tensor]] = []
    real = SecondLookSampler._settle

    def spy(self: SecondLookSampler, tokens, logits, step, cache):  # type: ignore[no-untyped-def]
        drawn: list[Tensor] = []
        draw = self._draw

        def drawing(logits: Tensor, places: Tensor) -> Tensor:
            drawn.append(logits)
            return draw(logits, places)

        self._draw = drawing
        settled = real(self, tokens, logits, step, cache)
        self._draw = draw
        looks.append((tokens, logits, drawn[0]))
        assert cache.length == step.stop
        is_masked = least_likely(logits, tokens, 0.5)
        assert torch.equal(settled[~is_masked], tokens[~is_masked])
        return settled

    monkeypatch.setattr(SecondLookSampler, "_settle", spy)
    whole = torch.cat([TOKENS[:, :1].flatten(1), made(model, "second-look", 0.5, guidance)], 1)
    assert len(looks) == 2
    nulls = torch.full((2, 1), CONFIG.first_condition_id + 3)
    for draft, (tokens, logits, look_logits) in enumerate(looks, 1):
        layout = draft_layout(layout_of(), draft)
        known = whole.clone()
        known[:, draft * 16 : (draft + 1) * 16] = tokens
        expected = []
        for conditions in (CONDITIONS, nulls):
            ids = layout.input_ids(known.view(2, 3, 4, 4), conditions)
            ids[:, -16:] = masked(ids[:, -16:], least_likely(logits, tokens, 0.5))
            expected.append(model.video_logits(model.features(ids, layout)))
        both = expected[1] + guidance * (expected[0] - expected[1])
        torch.testing.assert_close(look_logits, both[:, -16:], atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(logits, both[:, -32:-16], atol=1e-3, rtol=1e-3)


def test_only_a_model_trained_for_it_looks_again() -> None:
    model = build_transformer(replace(CONFIG, second_look=False))
    sampling = SamplingConfig(method="second-look")
    with pytest.raises(ValueError, match="was not trained for a second look"):
        sampler_of(model, layout_of(), sampling, torch.Generator(), LEVELS)


@pytest.mark.parametrize(
    ("method", "strength", "said"),
    [
        ("paper", 1.0, "has no strength to choose"),
        ("second-look", 1.5, "a number from 0 to 1, not 1.5"),
        ("neighbours", 2.5, "a whole number from 1 to 16, not 2.5"),
    ],
)
def test_a_strength_that_cannot_be_is_refused(method: str, strength: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        SamplingConfig(method=method, strength=strength)


def test_a_block_is_drafted_once_more_only_where_it_was_drawn_whole() -> None:
    """Next-token prediction has no block to look at again: it is the paper's."""
    model = build_transformer(CONFIG)
    made = []
    for kind in (Sampler, SecondLookSampler):
        method = "paper" if kind is Sampler else "second-look"
        sampling = SamplingConfig(method=method, block_shape=(1, 1, 1))
        rng = torch.Generator().manual_seed(1)
        sampler = sampler_of(model, layout_of((1, 1, 1)), sampling, rng, LEVELS)
        assert type(sampler) is kind
        steps = sampler.stream(TOKENS, 0, CONDITIONS)
        made.append(torch.cat([step.tokens_Bn for step in steps], 1))
    assert torch.equal(*made)
