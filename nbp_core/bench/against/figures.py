"""What every comparison with another program gives: median times of steps that ran in turn."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

Run = Callable[[], list[float]]
"""Times some decode steps; returns the seconds of each."""


@dataclass(frozen=True)
class Against:
    """Median milliseconds of a decode step, from alternating runs."""

    other: str
    """The other program, as `--against` names it."""
    model: str
    block: str
    our_format: str
    their_dtype: str
    threads: int
    steps: int
    """Decode steps in a run."""
    our_ms: float
    their_ms: float

    @property
    def ratio(self) -> float:
        """Their time divided by ours."""
        return self.their_ms / self.our_ms


def median_ms(ours: Run, theirs: Run, rounds: int) -> tuple[float, float]:
    """Median milliseconds of our step and of theirs.

    The runs alternate, so that other load on the machine affects both. The first round is a
    warm-up.
    """
    our_s, their_s = [], []
    for _ in range(1 + rounds):
        our_s.append(statistics.median(ours()))
        their_s.append(statistics.median(theirs()))
    return 1e3 * statistics.median(our_s[1:]), 1e3 * statistics.median(their_s[1:])
