"""One engine, many who want it: whoever asks first has the first turn."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

SLICE_S = 0.05
"""How long a turn lasts at least while others wait, if its work has more steps to do."""


class Turns:
    """A lock that is handed on in the order of asking, and that a long work lends between steps.

    The worker's job holds it, so that nobody disturbs what is timed; a job that may be interrupted
    gives way between its steps, and players take it for one latent frame at a time.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: deque[object] = deque()
        """The holder of the lock, then those who wait for it."""
        self._begun = 0.0

    @property
    def num_waiting(self) -> int:
        """How many wait while somebody has it."""
        return max(0, len(self._line) - 1)

    @contextmanager
    def take(self) -> Iterator[None]:
        """Waits for a turn and has it for the time of the block."""
        self._enter()
        try:
            yield
        finally:
            self._leave()

    def give_way(self) -> None:
        """Called by who has the turn: lets those go first who wait, once it has lasted a while."""
        if self.num_waiting and time.monotonic() - self._begun >= SLICE_S:
            with self.lent():
                pass

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Called by who has the turn: others may have it for the time of the block."""
        self._leave()
        try:
            yield
        finally:
            self._enter()

    def _enter(self) -> None:
        me = object()
        with self._changed:
            self._line.append(me)
            self._changed.wait_for(lambda: self._line[0] is me)
            self._begun = time.monotonic()

    def _leave(self) -> None:
        with self._changed:
            self._line.popleft()
            self._changed.notify_all()
