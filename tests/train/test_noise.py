"""Wrong tokens in the context: how many, and how wrong."""

from __future__ import annotations

import numpy as np

from nbp_core.train.noise import noisy_tokens

LEVELS = (7, 5, 5)


def digits(tokens: np.ndarray) -> np.ndarray:
    return np.stack([tokens % 7, tokens // 7 % 5, tokens // 35])


def test_no_more_than_asked_and_a_rate_for_each_clip() -> None:
    tokens = np.random.default_rng(0).integers(175, size=(200, 2, 8, 8))
    wrong = noisy_tokens(tokens, 0.4, LEVELS, np.random.default_rng(1)) != tokens
    rates = wrong.mean((1, 2, 3))
    assert 0.15 < rates.mean() < 0.22
    assert rates.min() < 0.03
    assert 0.33 < rates.max() < 0.55


def test_half_of_the_wrong_ones_are_neighbours() -> None:
    tokens = np.random.default_rng(0).integers(175, size=(50, 4, 8, 8))
    noisy = noisy_tokens(tokens, 1.0, LEVELS, np.random.default_rng(1))
    assert noisy.min() >= 0
    assert noisy.max() < 175
    changed = noisy != tokens
    steps = np.abs(digits(noisy) - digits(tokens)).sum(0)[changed]
    assert 0.48 < (steps == 1).mean() < 0.58


def test_nothing_asked_changes_nothing() -> None:
    tokens = np.arange(64).reshape(1, 1, 8, 8)
    assert (noisy_tokens(tokens, 0.0, LEVELS, np.random.default_rng(1)) == tokens).all()
