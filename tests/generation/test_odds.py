"""Odds of a finished clip's tokens are those that it was sampled with."""

import numpy as np
import pytest

from nbp_core import SamplingConfig, VideoPipeline
from nbp_core.config.shapes import NO_TOKEN, Size3
from tests.support.models import build_pipeline


@pytest.fixture(scope="module")
def pipeline() -> VideoPipeline:
    return build_pipeline()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 16), (1, 16, 16)])
def test_the_likeliest_codes_are_those_that_greedy_sampling_took(
    pipeline: VideoPipeline, shape: Size3
) -> None:
    sampling = SamplingConfig(block_shape=shape, temperature=0)
    tokens_thw = pipeline.generate("door-open", sampling=sampling).tokens_thw
    odds = pipeline.token_odds(tokens_thw, "door-open", sampling)
    likeliest_thw = odds.likeliest_thwK[..., 0]
    # Steps and the one pass add up in another order, which may swap two codes that are equal.
    is_near = odds.probability_thw > 0.999 * odds.likeliest_probability_thwK[..., 0]
    assert np.mean(likeliest_thw == tokens_thw) > 0.99
    assert is_near.mean() > 0.99
    assert (np.diff(odds.likeliest_probability_thwK, axis=-1) <= 0).all()


def test_another_action_guidance_and_temperature_change_the_odds(pipeline: VideoPipeline) -> None:
    tokens_thw = np.random.default_rng(0).integers(0, pipeline.codebook_size, pipeline.grid)

    def odds(action: str | None, guidance_scale: float = 1) -> np.ndarray:
        sampling = SamplingConfig(guidance_scale=guidance_scale)
        return pipeline.token_odds(tokens_thw, action, sampling).probability_thw

    plain = odds("door-open")
    assert not np.allclose(odds(None), plain)
    assert not np.allclose(odds("door-open", guidance_scale=3), plain)
    sharper = pipeline.token_odds(tokens_thw, "door-open", SamplingConfig(temperature=0.5))
    wide = pipeline.token_odds(tokens_thw, "door-open", SamplingConfig())
    most = sharper.likeliest_probability_thwK[..., 0] / wide.likeliest_probability_thwK[..., 0]
    assert (most >= 1).all()
    assert (sharper.likeliest_thwK != NO_TOKEN).all()
