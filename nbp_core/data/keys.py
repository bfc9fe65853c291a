"""Clips with keys, and random keys that are held as a player holds them, for some latent frames.

Shapes: T H W frames, C colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbp_core.media.files import Frames

FRAMES_PER_KEY = 4
"""Frames per key: those of one latent frame."""
MOST_HELD = 4
"""Longest time that a random key is held, in latent frames."""
REST = "stay"
"""The arm's key that moves nothing."""
GRIP_SUFFIX = "+grip"
"""Suffix of the arm's keys with a closed grip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyClip:
    """A clip of 1 + 4k frames (frames_THWC, uint8), its k keys, and the name of its look."""

    frames_THWC: Frames
    keys: tuple[str, ...]
    look: str


class HeldKeys:
    """Draws random keys, each held for 1 to MOST_HELD latent frames as long as it is allowed."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._key: str | None = None
        self._left = 0

    def next(self, allowed: Sequence[str]) -> tuple[str, bool]:
        """The key of the next latent frame, and whether it was newly drawn."""
        is_new = self._key not in allowed or self._left == 0
        if self._key is None or is_new:
            self._key = allowed[int(self._rng.integers(len(allowed)))]
            self._left = int(self._rng.integers(1, MOST_HELD + 1))
        self._left -= 1
        return self._key, is_new
