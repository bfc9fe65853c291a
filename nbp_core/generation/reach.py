"""How far keys may move the arm in a play: about as far as the training data moved it.

A model has never seen the arm beyond that. Without a limit the arm leaves the picture, or covers
it, and does not come back. A play does not know where the arm is, so it counts presses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from nbp_core.config.models import KeyAxis
from nbp_core.data.keys import GRIP_SUFFIX, REST


class Reach:
    """Counts the keys of a play along each axis. Without axes every key is followed."""

    def __init__(self, axes: tuple[KeyAxis, ...]) -> None:
        """axes: a model's `key_reach`."""
        self._net: Counter[str] = Counter()
        self._opposite: dict[str, str] = {}
        self._most: dict[str, int] = {}
        for one, most_of_one, other, most_of_other in axes:
            self._opposite |= {one: other, other: one}
            self._most |= {one: most_of_one, other: most_of_other}

    def followed(self, key: str) -> str:
        """The key itself, or REST with the same grip if the key leads out of reach."""
        move = key.removesuffix(GRIP_SUFFIX)
        most = self._most.get(move)
        is_out = most is not None and self._net[move] >= most
        return REST + key.removeprefix(move) if is_out else key

    def followed_all(self, keys: Iterable[str]) -> list[str]:
        """The keys that are followed in turn, which also counts them."""
        found = []
        for key in keys:
            found.append(self.followed(key))
            self.count(found[-1])
        return found

    def count(self, key: str) -> None:
        """Counts a key under which a latent frame was generated."""
        move = key.removesuffix(GRIP_SUFFIX)
        if move in self._opposite:
            self._net[move] += 1
            self._net[self._opposite[move]] -= 1
