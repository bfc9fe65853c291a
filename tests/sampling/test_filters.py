from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nbp_core.config.sampling import LEAST, SamplingConfig
from nbp_core.sampling.filters import (
    Urn,
    filter_top_k,
    filter_top_p,
    guide,
    sample,
    sample_by_sorting,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_top_k_keeps_the_k_largest_of_every_position() -> None:
    logits = torch.randn(3, 5, 40)
    kept = filter_top_k(logits, 7).isfinite()
    assert (kept.sum(-1) == 7).all()
    assert torch.equal(kept, logits >= logits.topk(7).values[..., -1:])
    assert torch.equal(filter_top_k(logits, 40), logits)


def test_top_p_keeps_the_smallest_set_that_reaches_p() -> None:
    probs = torch.tensor([[0.5, 0.3, 0.15, 0.05], [0.05, 0.05, 0.05, 0.85]])
    assert filter_top_p(probs.log(), 0.79).isfinite().tolist() == [
        [True, True, False, False],
        [False, False, False, True],
    ]
    assert filter_top_p(probs.log(), 0.81).isfinite()[0].tolist() == [True, True, True, False]
    assert filter_top_p(probs.log(), 1e-9).isfinite().sum(-1).tolist() == [1, 1]


def test_filters_leave_their_input_alone() -> None:
    logits = torch.randn(2, 10)
    before = logits.clone()
    filter_top_p(filter_top_k(logits, 3), 0.5)
    sample(logits, SamplingConfig(top_k=3, top_p=0.5), rng())
    assert torch.equal(logits, before)


def test_temperature_zero_is_argmax() -> None:
    logits = torch.randn(2, 16, 50)
    drawn = sample(logits, SamplingConfig(temperature=0), rng())
    assert torch.equal(drawn, logits.argmax(-1))


def test_same_seed_same_tokens_other_seed_others() -> None:
    logits = torch.zeros(2, 16, 1000)
    config = SamplingConfig()
    assert torch.equal(sample(logits, config, rng(1)), sample(logits, config, rng(1)))
    assert not torch.equal(sample(logits, config, rng(1)), sample(logits, config, rng(2)))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_distribution(temperature: float) -> None:
    logits = torch.tensor([2.0, 1.0, 0.0, -1.0])
    config = SamplingConfig(temperature=temperature, top_p=1.0)
    drawn = sample(logits.expand(40_000, 4), config, rng())
    shares = torch.bincount(drawn, minlength=4) / len(drawn)
    expected = (logits / temperature).softmax(0)
    torch.testing.assert_close(shares, expected, atol=0.01, rtol=0)


def test_positions_are_drawn_independently() -> None:
    drawn = sample(torch.zeros(5000, 2, 2), SamplingConfig(top_p=1.0), rng())
    agreement = (drawn[:, 0] == drawn[:, 1]).float().mean()
    assert agreement == pytest.approx(0.5, abs=0.03)


def test_guidance_of_one_is_the_condition_and_more_goes_beyond() -> None:
    conditional, unconditional = torch.randn(2, 3, 9)
    assert torch.allclose(guide(conditional, unconditional, 1.0), conditional)
    pushed = guide(conditional, unconditional, 3.0) - unconditional
    torch.testing.assert_close(pushed, 3 * (conditional - unconditional))


def by_sorting(logits: Tensor, config: SamplingConfig, rng: torch.Generator) -> Tensor:
    return sample_by_sorting(logits, config, torch.rand((*logits.shape[:-1], 1), generator=rng))


@pytest.mark.parametrize("sample", [sample, by_sorting])
@pytest.mark.parametrize("top_k", [3, 10, 40, 100])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.9, 1.0])
def test_draws_are_those_of_the_sorted_filters(
    sample: Callable[..., Tensor], top_k: int, top_p: float
) -> None:
    """Rejection and, at a small nucleus or on a GPU, sorting give one and the same distribution."""
    torch.manual_seed(top_k)
    logits, count = 2 * torch.randn(3, 40), 30_000
    config = SamplingConfig(top_k=top_k, top_p=top_p)
    drawn = sample(logits.expand(count, 3, 40), config, rng())
    expected = filter_top_p(filter_top_k(logits, top_k), top_p).softmax(-1)
    for row in range(3):
        shares = torch.bincount(drawn[:, row], minlength=40) / count
        assert set(shares.nonzero().flatten().tolist()) <= set(
            expected[row].nonzero().flatten().tolist()
        )
        torch.testing.assert_close(shares, expected[row], atol=0.015, rtol=0)


def test_a_token_of_no_probability_is_never_drawn() -> None:
    probs = torch.zeros(20_000, 9)
    probs[:, 2], probs[:, 5] = 0.25, 0.75
    drawn = Urn(probs).draw(rng())
    shares = torch.bincount(drawn, minlength=9) / len(drawn)
    torch.testing.assert_close(shares, probs[0], atol=0.01, rtol=0)
    assert set(drawn.tolist()) == {2, 5}


@pytest.mark.parametrize("sample", [sample, by_sorting])
@pytest.mark.parametrize("config", [SamplingConfig(temperature=LEAST), SamplingConfig(top_p=LEAST)])
def test_the_least_temperature_and_top_p_take_the_likeliest(
    sample: Callable[..., Tensor], config: SamplingConfig
) -> None:
    logits = 20 * torch.randn(3, 16, 4000)
    assert torch.equal(sample(logits, config, rng()), logits.argmax(-1))
