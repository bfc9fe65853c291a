"""Frechet distance between two sets of features, with each set modelled as a Gaussian. Numpy only.

Shapes: N samples, D features. Source: Heusel et al., 2017. The distance depends on the sizes of the
sets. So it is reported with the sizes, and with the distance of two real sets of the same sizes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float64]


def frechet_distance(first_ND: Features, second_ND: Features) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), exact even for fewer samples than features.

    With C = A'A the last trace is the sum of the singular values of A1 A2', so no matrix root is
    computed. Raises ValueError for a set of fewer than two samples.
    """
    if min(len(first_ND), len(second_ND)) < 2:
        raise ValueError("a Frechet distance needs at least two clips on either side")
    gap = first_ND.mean(0) - second_ND.mean(0)
    first, second = _root(first_ND), _root(second_ND)
    shared = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    distance = gap @ gap + (first**2).sum() + (second**2).sum() - 2 * shared
    return max(0.0, float(distance))


def _root(features_ND: Features) -> Features:
    """A (at most D rows) with A'A the covariance of the features."""
    centred: Features = (features_ND - features_ND.mean(0)) / np.sqrt(len(features_ND) - 1)
    if len(centred) <= centred.shape[1]:
        return centred
    return np.asarray(np.linalg.qr(centred, mode="r"))
