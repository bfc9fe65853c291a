"""The Frechet distance against its formula, and against a matrix root taken the long way."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from nbp_core.evaluation.frechet import Features, frechet_distance


def features(count: int, width: int, seed: int) -> Features:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + rng.normal(
        size=width
    )


def by_matrix_root(a: Features, b: Features) -> float:
    c1, c2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(c1 @ c2)
    return float(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * np.real(root)))


@pytest.mark.parametrize(("first", "second", "width"), [(200, 90, 6), (30, 25, 20)])
def test_it_is_the_distance_of_the_formula(first: int, second: int, width: int) -> None:
    a, b = features(first, width, 0), features(second, width, 1)
    assert frechet_distance(a, b) == pytest.approx(by_matrix_root(a, b), rel=1e-6)
    assert frechet_distance(b, a) == pytest.approx(frechet_distance(a, b))


def test_fewer_samples_than_features_give_what_more_features_of_zero_would() -> None:
    a, b = features(9, 5, 0), features(8, 5, 1)
    wide_a, wide_b = (np.pad(x, ((0, 0), (0, 40))) for x in (a, b))
    assert frechet_distance(wide_a, wide_b) == pytest.approx(frechet_distance(a, b))


def test_it_is_zero_of_equal_sets_and_the_square_of_a_shift() -> None:
    a = features(50, 4, 0)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(a, a[::-1] + np.array([3, 0, 4, 0])) == pytest.approx(25)


def test_a_single_clip_has_no_distance() -> None:
    with pytest.raises(ValueError, match="at least two clips"):
        frechet_distance(np.zeros((1, 3)), np.zeros((5, 3)))
