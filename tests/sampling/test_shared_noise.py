"""Every way to draw a block is exact in what it claims, and the paper's stays the default."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.sampling import METHODS, SamplingConfig
from nbp_core.sampling.best_block import BestBlockSampler, confidence, sampler_of
from nbp_core.sampling.sampler import Sampler
from nbp_core.sampling.shared_noise import (
    SharedNoise,
    cells,
    drawing,
    entropy_temperature,
    filtered_probs,
)
from nbp_core.tokenizer.fsq import FSQ
from nbp_core.transformer.model import BlockTransformer
from tests.support.models import CODES, build_pipeline, build_transformer, transformer_config

LEVELS = (5, 4, 3)
LOGITS = torch.tensor([2.0, 1.5, 1.0, 0.0, -1.0])


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def shares(tokens: Tensor, count: int) -> Tensor:
    return torch.bincount(tokens.flatten(), minlength=count) / tokens.numel()


def test_the_filtered_distribution_is_what_the_paper_draws_from() -> None:
    config = SamplingConfig(temperature=0.7, top_k=4, top_p=0.9)
    probs = filtered_probs(LOGITS, config)
    assert probs.sum() == pytest.approx(1)
    draw = drawing(config, rng(), LEVELS, 4)
    tokens = draw(LOGITS.expand(1, 40_000, 5), torch.zeros(40_000, dtype=torch.int64))
    torch.testing.assert_close(shares(tokens, 5), probs, atol=0.01, rtol=0)
    greedy = filtered_probs(LOGITS, SamplingConfig(temperature=0))
    assert greedy.tolist() == [1, 0, 0, 0, 0]


def test_entropy_lowers_the_temperature_of_what_is_sure() -> None:
    sure, unsure = torch.tensor([8.0, 0, 0, 0]), torch.zeros(4)
    keeps = entropy_temperature(torch.stack([sure, unsure]), 1.0).squeeze(-1)
    assert keeps[1] == pytest.approx(0.8 ** (1 / torch.log(torch.tensor(4.0)).item()))
    assert keeps[0] < 0.01
    logits = torch.stack([sure, unsure]).expand(1, 5000, 2, 4).flatten(1, 2)
    tokens = drawing(SamplingConfig(method="entropy", top_p=1), rng(), LEVELS, 1)(
        logits, torch.zeros(10_000, dtype=torch.int64)
    )
    assert (tokens[0, ::2] == 0).all()
    torch.testing.assert_close(
        shares(tokens[0, 1::2], 4), torch.full((4,), 0.25), atol=0.02, rtol=0
    )


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


def test_cells_hold_neighbours_on_every_channel() -> None:
    cells_V = cells(LEVELS, 2)
    assert len(cells_V) == CODES
    assert int(cells_V.max()) + 1 == 3 * 2 * 2
    fsq = FSQ(LEVELS)
    for cell in range(12):
        code = fsq.token_to_code(torch.nonzero(cells_V == cell).flatten()) * fsq.half_width
        assert ((code.amax(0) - code.amin(0)) <= 1).all()


def test_neighbours_draw_the_cell_exactly_and_take_its_likeliest_code() -> None:
    config = SamplingConfig(method="neighbours", top_p=0.95)
    logits = 2 * torch.randn(CODES, generator=rng(3))
    tokens = drawing(config, rng(), LEVELS, 1)(
        logits.expand(1, 40_000, CODES), torch.zeros(40_000, dtype=torch.int64)
    )
    cells_V, probs = cells(LEVELS, 2), filtered_probs(logits, config)
    expected = torch.zeros(12).index_add(0, cells_V, probs)
    torch.testing.assert_close(shares(cells_V[tokens], 12), expected, atol=0.01, rtol=0)
    for cell in set(cells_V[tokens].flatten().tolist()):
        inside = torch.nonzero(cells_V == cell).flatten()
        likeliest = inside[probs[inside].argmax()]
        assert (tokens[cells_V[tokens] == cell] == likeliest).all()


@pytest.fixture(scope="module")
def model() -> BlockTransformer:
    config = transformer_config(grid=(3, 4, 4), block_shape=(1, 4, 4))
    return build_transformer(replace(config, second_look=True))


def run(model: BlockTransformer, method: str, guided: bool = False, known: int = 16) -> Tensor:
    layout = sequence_layout(model.config)
    sampling = SamplingConfig(method=method, guidance_scale=2.0 if guided else 1.0)
    sampler = sampler_of(model, layout, sampling, rng(5), LEVELS)
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
    with pytest.raises(ValueError, match=r"method must be one of paper, .*, not 'best'"):
        SamplingConfig(method="best")


def test_the_best_block_is_the_one_after_which_the_model_is_surest(
    model: BlockTransformer, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Tensor] = []
    real_feed = Sampler._feed_back

    def spy(self: Sampler, ids: Tensor, tokens: Tensor, *rest: object) -> None:
        drawn.append(tokens.clone())
        real_feed(self, ids, tokens, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(BestBlockSampler, "_feed_back", spy)
    made = run(model, "best-block").view(2, 3, 16)
    count = 4  # unless a strength is chosen
    candidates = drawn[0].view(2, count, 16)
    layout = sequence_layout(model.config)
    for sample in range(2):
        whole = made[sample].expand(count, -1, -1).clone()
        whole[:, 1] = candidates[sample]
        first = model.config.first_condition_id + sample
        ids = layout.input_ids(whole.view(-1, 3, 4, 4), torch.full((count, 1), first))
        sure = confidence(model.video_logits(model.features(ids, layout)[:, -16:]))
        assert torch.equal(made[sample, 1], candidates[sample, sure.argmax()])
        assert sure.max() > sure.min()


def test_a_pipeline_takes_the_method_and_says_so_in_its_manifest() -> None:
    pipeline = build_pipeline()
    frame = torch.zeros(1, 128, 128, 3, dtype=torch.uint8).numpy()
    sampling = SamplingConfig(method="neighbours", block_shape=(1, 16, 16))
    made = pipeline.generate("door-open", frame, 5, sampling)
    assert made.manifest["sampling"]["method"] == "neighbours"
    paper = pipeline.generate("door-open", frame, 5, SamplingConfig(block_shape=(1, 16, 16)))
    assert (made.tokens_thw[1] != paper.tokens_thw[1]).any()


@pytest.mark.parametrize("strength", [None, 0.0, 10.0])
def test_a_token_that_is_certain_is_drawn_whatever_its_entropy(strength: float | None) -> None:
    logits = torch.full((1, 3, CODES), -200.0)
    logits[0, range(3), [7, 0, CODES - 1]] = 200.0
    config = SamplingConfig(method="entropy", strength=strength)
    tokens = drawing(config, rng(), LEVELS, 3)(logits, torch.arange(3))
    assert tokens.tolist() == [[7, 0, CODES - 1]]
