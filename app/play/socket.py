"""The WebSocket of a player: reads what the page asks for and answers with latent frames."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Literal

from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.jobs import explain, logger
from app.play.player import Player, Shown, block_for
from app.play.players import Players, Result
from app.play.protocol import (
    MAX_UNREAD,
    PATH,
    Begin,
    Change,
    Message,
    Step,
    frames_bytes,
    read_message,
    started_text,
    text_of,
)
from app.play.starts import Start
from app.sockets import POLICY, TRY_LATER

MAX_STEPS_PER_S = 6.0
"""Latent frames that a player is made on average; at 16 frames a second there are 4."""
BURST = 6.0


def route(players: Players) -> WebSocketRoute:
    """The route that pages open their sockets at."""

    async def serve(socket: WebSocket) -> None:
        await Visitor(socket, players).run()

    return WebSocketRoute(PATH, serve)


class Visitor:
    """One connection. It reads while it works, so that it ends as soon as the page goes."""

    def __init__(self, socket: WebSocket, players: Players) -> None:
        self.idle_since: float | None = None
        self._last_step = time.monotonic()
        self._socket = socket
        self._players = players
        self._player: Player | None = None
        self._unread: asyncio.Queue[Message] = asyncio.Queue(MAX_UNREAD)
        self._allowance = BURST
        self._why_away = ""

    async def run(self) -> None:
        """Serves until the page goes, is sent away, or says what no page says."""
        await self._socket.accept()
        self._serving = asyncio.create_task(self._serve())
        tasks = [asyncio.create_task(self._read()), self._serving]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            self._drop_player()
        if self._why_away:
            await self._end(self._why_away, TRY_LATER)
        for task in done:
            error = None if task.cancelled() else task.exception()
            if isinstance(error, ValueError):
                await self._end(str(error), POLICY)
            elif error is not None and not isinstance(error, WebSocketDisconnect):
                raise error

    async def _read(self) -> None:
        """Returns when the page has gone. Raises ValueError for what no page says."""
        while True:
            received = await self._socket.receive()
            if received["type"] == "websocket.disconnect":
                return
            if received.get("text") is None:
                raise ValueError("Only text is read here.")
            message = read_message(received["text"])
            if self._unread.full():
                raise ValueError("Too many messages at once.")
            self._unread.put_nowait(message)

    async def _serve(self) -> None:
        async with self._players.seat(self, self._tell):
            while True:
                self.idle_since = time.monotonic()
                message = await self._unread.get()
                self.idle_since = None
                await self._answer(message)

    async def _answer(self, message: Message) -> None:
        """Follows a message; what cannot be followed is a sentence, and the play stays."""
        try:
            if isinstance(message, Begin):
                await self._begin(message)
            elif isinstance(message, Step):
                await self._step(message)
            elif isinstance(message, Change):
                await self._change(message)
            else:
                await self._save()
        except (WebSocketDisconnect, asyncio.CancelledError):
            raise
        except Exception as error:
            if not isinstance(error, ValueError):
                logger.exception("a player's step failed")
            await self._socket.send_text(text_of("refused", why=explain(error)))

    async def _begin(self, begin: Begin) -> None:
        await self._open("started", self._players.starts.get(begin.start), begin)

    async def _change(self, change: Change) -> None:
        """Block and temperature change within a play; another model starts from its last frame."""
        player = self._playing()
        await self._work(lambda _: player.change(change))
        if change.model is None or change.model == player.begin.model:
            await self._socket.send_text(started_text("changed", player.started()))
        else:
            await self._open("changed", *player.handed_to(change.model))

    async def _open(self, kind: Literal["started", "changed"], start: Start, begin: Begin) -> None:
        session = self._players.session
        if session.loaded(begin.model) is None:
            await self._tell(f"Loading {begin.model}...")
        pipeline = await asyncio.to_thread(session.pipeline, begin.model)
        if kind == "changed":
            begin = begin.model_copy(update={"block": block_for(pipeline, begin.block)})
        player = await self._work(
            lambda _: Player(pipeline, start, begin), "Starting the engine..."
        )
        self._drop_player()
        self._player = player
        await self._socket.send_text(started_text(kind, player.started()))
        if kind == "started":
            await self._show(player.first(self._players.count))

    async def _step(self, step: Step) -> None:
        player = self._playing()
        await self._pace()
        count = self._players.count
        shown = await self._work(lambda wait_s: player.step(step.number, step.key, wait_s, count))
        await self._show(shown)

    async def _pace(self) -> None:
        """Makes a page wait that asks faster than frames are shown."""
        now = time.monotonic()
        earned = (now - self._last_step) * MAX_STEPS_PER_S
        self._allowance = min(BURST, self._allowance + earned) - 1
        self._last_step = now
        if self._allowance < 0:
            await asyncio.sleep(-self._allowance / MAX_STEPS_PER_S)

    async def _show(self, shown: Shown) -> None:
        data = await asyncio.to_thread(
            frames_bytes, shown.header, shown.frames_THWC, shown.beside_THWC
        )
        await self._socket.send_bytes(data)

    async def _save(self) -> None:
        player = self._playing()
        recording = await self._work(lambda _: player.recording())
        start = self._players.starts.add_recording(
            recording, player.begin.model, owner=str(id(self))
        )
        name = f"play_{player.start.title}_{player.begin.model}".replace(" ", "-")
        fields = {"id": start.id, "name": name, "recording": recording.to_dict()}
        await self._socket.send_text(text_of("saved", **fields))

    def _playing(self) -> Player:
        if self._player is None:
            raise ValueError("Nothing has been played yet.")
        return self._player

    def _drop_player(self) -> None:
        player, self._player = self._player, None
        if player is not None:
            self._players.later(player.close)

    async def _work(self, do: Callable[[float], Result], slow: str | None = None) -> Result:
        return await self._players.work(do, self._tell, slow)

    async def _tell(self, why: str) -> None:
        await self._socket.send_text(text_of("waiting", why=why))

    def send_away(self, why: str) -> None:
        """Makes room for another player at once, whether or not the page still reads why."""
        self._why_away = why
        self._serving.cancel()

    async def _end(self, why: str, code: int) -> None:
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it has gone by itself
            await self._socket.send_text(text_of("ended", why=why))
            await self._socket.close(code)
