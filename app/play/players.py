"""Who plays: so many at once, the others wait; one thread makes their latent frames in turns."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Protocol, TypeVar

from app.clips.words import plural
from app.play.starts import Starts
from app.session import Session

MAX_PLAYERS = 4
"""With more, none of them would see a clip that flows."""
IDLE_S = 60.0
"""A player who asks for nothing as long as this makes room for one who waits."""
LOOK_S = 0.5
"""Seconds between two looks of one who waits."""
SLOW_S = 0.7
"""Seconds after which a waiting player is sent its place in the queue."""

_SHARED = (
    "A run of another tab uses the engine. The next frame comes between its steps, or at its end if"
    " it is being timed."
)

Result = TypeVar("Result")
Tell = Callable[[str], Awaitable[None]]


class Seated(Protocol):
    """Who has a place."""

    idle_since: float | None
    """time.monotonic() at which it had its last answer; None while it waits for one."""

    def send_away(self, why: str) -> None: ...


class Players:
    """The places of those who play, and the thread that they share."""

    def __init__(self, session: Session, starts: Starts) -> None:
        self.session = session
        self.starts = starts
        self._seated: list[Seated] = []
        self._line: deque[Seated] = deque()
        # One thread: its work is in the order of asking, so players have turns of a latent frame.
        self._engine = ThreadPoolExecutor(max_workers=1, thread_name_prefix="players")

    @property
    def count(self) -> int:
        """How many have a place."""
        return len(self._seated)

    @asynccontextmanager
    async def seat(self, visitor: Seated, tell: Tell) -> AsyncIterator[None]:
        """Waits for a place and holds it for the time of the block; `tell` hears how long the line
        is."""
        self._line.append(visitor)
        try:
            await self._wait(visitor, tell)
        finally:
            self._line.remove(visitor)
        self._seated.append(visitor)
        try:
            yield
        finally:
            self._seated.remove(visitor)

    async def _wait(self, visitor: Seated, tell: Tell) -> None:
        reported = -1
        while self._line[0] is not visitor or self.count >= MAX_PLAYERS:
            ahead = self._line.index(visitor)
            if ahead != reported:
                reported = ahead
                await tell(
                    f"The engine is taken by {plural(MAX_PLAYERS, 'other player')}. You are number"
                    f" {ahead + 1} in the queue."
                )
            for idle in self._idle()[: len(self._line)]:
                idle.send_away(
                    "Someone else was waiting, so your turn ended. Press Play to start again."
                )
            await asyncio.sleep(LOOK_S)

    def _idle(self) -> list[Seated]:
        now = time.monotonic()
        return [
            seated
            for seated in self._seated
            if seated.idle_since is not None and now - seated.idle_since > IDLE_S
        ]

    async def work(
        self, do: Callable[[float], Result], tell: Tell, slow: str | None = None
    ) -> Result:
        """Runs `do(seconds waited)` in the engine's thread.

        `tell` hears why it takes long: others have the engine, or else what `slow` says.
        """
        asked = time.monotonic()
        has_left = threading.Event()

        def turn() -> Result:
            with self.session.turns.take():
                if has_left.is_set():
                    raise asyncio.CancelledError
                try:
                    return do(time.monotonic() - asked)
                except StopIteration as error:
                    # No future takes it: whoever waits would wait for ever.
                    raise RuntimeError("an iterator was at its end") from error

        future = asyncio.get_running_loop().run_in_executor(self._engine, turn)
        try:
            done, _ = await asyncio.wait({future}, timeout=SLOW_S)
            why = _SHARED if self.session.jobs.length else slow
            if not done and why is not None:
                await tell(why)
            return await future
        except BaseException:
            # Nobody waits for it any more, and those who still play come sooner.
            has_left.set()
            future.cancel()
            raise

    def later(self, do: Callable[[], None]) -> None:
        """Runs `do` in the engine's thread, after what is under way there."""
        with contextlib.suppress(RuntimeError):  # the studio is closing, and frees everything
            self._engine.submit(do)
