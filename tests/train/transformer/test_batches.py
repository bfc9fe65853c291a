"""Which sequences are drawn from sets of tokens, and which tokens are refused."""

from dataclasses import replace

import numpy as np
import pytest

from nbp_core.train.loop.task import Part
from nbp_core.train.transformer.batches import Batch
from tests.train.test_trainer import token_set
from tests.train.transformer.test_task import GRID, keyed_sets, keyed_task, task


def test_sources_are_drawn_by_their_shares() -> None:
    batches = keyed_task(source_shares=(("clips", 0.25), ("arm", 0.75))).batches
    rng = np.random.default_rng(0)
    _, arm = batches.sources
    short = [source is arm for source, _ in batches.draw_clips(2, 1, 2000, rng)]
    assert 0.7 < np.mean(short) < 0.8
    long = batches.draw_clips(4, 1, 50, rng)
    assert all(source is arm for source, _ in long)  # the others are too short
    assert {row for _, row in long} == {0, 1, 2, 3}


def test_a_later_window_has_the_tokens_and_keys_of_its_frames() -> None:
    batches = keyed_task(later_windows=1.0).batches
    played = keyed_sets()["arm"]
    batch = Batch.of([(batches.sources[1], 2)], 3, 4)
    np.testing.assert_array_equal(batch.tokens_Bthw[0], played.tokens_Nthw[2, [0, 4, 5]])
    ids = [batches.conditions.id(name) for name in (None, played.keys[2][3], played.keys[2][4])]  # type: ignore[index]
    assert batch.frames_Bt is not None
    assert batch.frames_Bt[0].tolist() == ids
    assert batch.missing == 3
    firsts = {batches.draw_first(3, np.random.default_rng(seed)) for seed in range(40)}
    assert firsts == {2, 3, 4, 5}


def test_a_source_without_a_share_decides_no_length() -> None:
    """It is the only one with clips of seven latent frames."""
    training = keyed_task(source_shares=(("clips", 1.0), ("arm", 0.0)))
    assert training.batches.longest == 3
    for step in range(8):
        assert training.loss(step, 0.5, Part())[1]["latent_frames"] == 2


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        (np.zeros((4, 5, 8, 16), np.uint16), "'clips' are a grid of 8 x 16 and those of model"),
        (np.zeros((4, 5, 2, 16), np.uint16), "'clips' are a grid of 2 x 16 and those of model"),
        (np.full((4, *GRID), 60, np.uint16), "'clips' are not all codes from 0 to 59"),
        (np.full((4, *GRID), -1), "'clips' are not all codes from 0 to 59"),
        (np.zeros((4, *GRID)), "'clips' are not all codes from 0 to 59"),
    ],
)
def test_tokens_of_another_model_are_refused(tokens: np.ndarray, sentence: str) -> None:
    clips = replace(token_set(4, GRID), tokens_Nthw=tokens)
    with pytest.raises(ValueError, match=sentence):
        task(clips)
