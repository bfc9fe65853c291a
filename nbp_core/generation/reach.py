"""How far keys may move the arm in a play: about as far as the training data moved it.

A model has never seen the arm beyond that. Without a limit the arm leaves the picture, or covers
it, and does not come back. A play does not know where the arm is, so it counts presses.
"""

from __future__ import annotations

from collections import Counter

from nbp_core.config.models import KeyAxis
from nbp_core.data.keys import GRIP_SUFFIX, REST


class Reach:
    """Counts the keys of a play along each axis, such as left and right, and limits them.

    Without axes every key is followed.
    """

    def __init__(self, axes: tuple[KeyAxis, ...]) -> None:
        """axes: a model's `key_reach`. Each is (key, its largest excess, opposite key, its largest
        excess), in presses."""
        self._net: Counter[str] = Counter()
        self._opposite: dict[str, str] = {}
        self._most: dict[str, int] = {}
        for one, most_of_one, other, most_of_other in axes:
            self._opposite |= {one: other, other: one}
            self._most |= {one: most_of_one, other: most_of_other}

    def follow(self, key: str) -> str:
        """Returns the key to follow when `key` is pressed, and counts it."""
        followed = self.limited(key)
        self.count(followed)
        return followed

    def limited(self, key: str) -> str:
        """The key itself, or REST with the same grip if the key leads out of the arm's reach."""
        move = key.removesuffix(GRIP_SUFFIX)
        most = self._most.get(move)
        is_out = most is not None and self._net[move] >= most
        return REST + key.removeprefix(move) if is_out else key

    def count(self, key: str) -> None:
        """Counts a key that was followed."""
        move = key.removesuffix(GRIP_SUFFIX)
        if move in self._opposite:
            self._net[move] += 1
            self._net[self._opposite[move]] -= 1
