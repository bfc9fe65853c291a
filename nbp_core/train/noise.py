"""Wrong tokens in the context of training clips, since in a play some of the model's own are wrong.

Source: GameNGen (arXiv 2408.14837), which corrupts context frames so that errors do not build up.
Here tokens are replaced. Shapes: B clips, t h w grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 0.5
"""Share of the wrong tokens that are neighbours of the right one; the others are any code."""


def noisy_tokens(
    tokens_Bthw: NDArray[np.int64],
    most: float,
    levels: tuple[int, ...],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """The tokens, with a random share of wrong ones in each clip, between 0 and `most`.

    levels: the FSQ levels of the codebook; a neighbour is one level away in one latent channel.
    """
    rates = rng.uniform(0, most, (len(tokens_Bthw), 1, 1, 1))
    drawn = rng.random(tokens_Bthw.shape)
    near = _neighbours(tokens_Bthw, levels, rng)
    anything = rng.integers(int(np.prod(levels)), size=tokens_Bthw.shape)
    wrong = np.where(drawn < NEIGHBOURS * rates, near, anything)
    return np.where(drawn < rates, wrong, tokens_Bthw)


def _neighbours(
    tokens_Bthw: NDArray[np.int64], levels: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.int64]:
    """For each token, a code one level away in a random channel."""
    sizes = np.array(levels)
    basis = np.concatenate([[1], sizes.cumprod()[:-1]])
    channel = rng.integers(len(levels), size=tokens_Bthw.shape)
    digit = tokens_Bthw // basis[channel] % sizes[channel]
    step = np.where(rng.random(tokens_Bthw.shape) < 0.5, -1, 1)
    step = np.where((digit + step < 0) | (digit + step >= sizes[channel]), -step, step)
    near: NDArray[np.int64] = tokens_Bthw + step * basis[channel]
    return near
