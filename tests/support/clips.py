"""Small clips whose action is the way a square moves, over a still, textured background."""

from __future__ import annotations

import numpy as np

from nbp_core.media.files import Frames

WAYS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}


def moving_square(way: str, rng: np.random.Generator, side: int = 64) -> Frames:
    """frames_THWC, 17 of them."""
    background = np.repeat(np.repeat(rng.integers(60, 110, (8, 8, 3)), side // 8, 0), side // 8, 1)
    frames = np.stack([background] * 17).astype(np.uint8)
    dy, dx = WAYS[way]
    size, step = side // 4, side // 32
    middle = (side - size) // 2
    y, x = middle - 8 * step * dy, middle - 8 * step * dx
    y, x = y + int(rng.integers(-3, 4)) * (dy == 0), x + int(rng.integers(-3, 4)) * (dx == 0)
    colour = rng.integers(160, 255, 3)
    for t, frame in enumerate(frames):
        top, left = y + t * step * dy, x + t * step * dx
        frame[top : top + size, left : left + size] = colour
    return frames


def square_clips(count_of_each: int, seed: int = 0, side: int = 64) -> tuple[Frames, list[str]]:
    """(frames_NTHWC, actions): the four ways in turn."""
    rng = np.random.default_rng(seed)
    actions = list(WAYS) * count_of_each
    return np.stack([moving_square(action, rng, side) for action in actions]), actions
