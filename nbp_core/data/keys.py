"""Clips that answer to keys, and keys as a player holds them: one for some latent frames, then
another. Shapes: T H W frames, C colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nbp_core.media.files import Frames

FRAMES_PER_KEY = 4
"""Frames that a key is held for at least: those of a latent frame."""
MOST_HELD = 4
"""Latent frames."""
GRIP_SUFFIX = "+grip"
"""Ends the name of an arm's key with its grip closed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeyClip:
    """frames_THWC, 1 + 4 k of them, the k keys that moved them, and how it looks."""

    frames_THWC: Frames
    keys: tuple[str, ...]
    look: str


class HeldKeys:
    """Draws keys that are each held for one to MOST_HELD latent frames, while they are allowed."""

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
