"""Flicker, token changes, nearest clips and diversity on clips whose figures are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nbp_core.evaluation.metrics import (
    STILL_LEVELS,
    diversity,
    flicker,
    mostly_still_places,
    nearest_distance,
    small,
    still_places,
    still_tokens,
    token_change_rate,
)
from tests.support.clips import square_clips


def test_still_is_what_stays_within_the_noise_of_video_coding() -> None:
    frames = np.full((5, 8, 8, 3), 100, np.uint8)
    frames[2, 0, 0, 1] += STILL_LEVELS
    frames[3, 4, 4, 2] += STILL_LEVELS + 1
    still = still_places(frames)
    assert still.sum() == 63
    assert not still[4, 4]


def test_a_place_is_mostly_still_in_nine_clips_of_ten() -> None:
    frames = np.zeros((10, 3, 4, 4, 3), np.uint8)
    frames[0, 1, 0, 0] = frames[:2, 1, 1, 1] = 200
    assert np.argwhere(~mostly_still_places(frames)).tolist() == [[1, 1]]


def test_flicker_is_the_mean_change_where_the_mask_says() -> None:
    frames = np.zeros((3, 4, 4, 3), np.uint8)
    frames[1, :, :2] = 6
    left = np.zeros((4, 4), bool)
    left[:, :2] = True
    assert flicker(frames, left) == 6
    assert flicker(frames, ~left) == 0
    assert flicker(frames, np.ones((4, 4), bool)) == 3
    assert math.isnan(flicker(frames, np.zeros((4, 4), bool)))


def test_token_changes_count_where_every_pixel_under_a_token_is_still() -> None:
    still = np.ones((16, 16), bool)
    still[3, 12] = False
    places = still_tokens(still, 8)
    assert places.tolist() == [[True, False], [True, True]]
    tokens = np.zeros((3, 2, 2), np.int64)
    tokens[1:, 0, 1] = 5
    tokens[2, 1, 1] = 7
    assert token_change_rate(tokens) == pytest.approx(2 / 8)
    assert token_change_rate(tokens, places) == pytest.approx(1 / 6)
    assert math.isnan(token_change_rate(tokens, np.zeros((2, 2), bool)))


def test_the_nearest_clip_is_found_among_more_than_one_chunk() -> None:
    clips, _ = square_clips(20)
    rows = small(clips)
    assert nearest_distance(rows[70:72], rows) == pytest.approx([0, 0], abs=1e-3)
    brighter = small(clips[:1] + np.uint8(3))
    assert nearest_distance(brighter, rows) == pytest.approx([3], abs=0.1)


def test_diversity_is_of_clips_of_one_action() -> None:
    rows = np.array([[0, 0], [4, 4], [100, 100], [100, 100]], np.float32)
    assert diversity(rows, ["a", "a", "b", "b"]) == pytest.approx(2)
    assert math.isnan(diversity(rows[:2], ["a", "b"]))
