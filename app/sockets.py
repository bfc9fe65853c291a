"""The limits that a WebSocket keeps to: how large its messages are, and how many there are."""

from __future__ import annotations

import asyncio
import contextlib
import time

from starlette.types import Message, Receive, Send

POLICY = 1008
"""Close codes (RFC 6455, section 7.4.1)."""
TOO_LARGE = 1009
TRY_LATER = 1013

MAX_MESSAGE_BYTES = 64 * 1024
MAX_MESSAGES_PER_S = 120.0
"""On average; held keys of a keyboard and a gamepad send fewer than 60."""
BURST = 240
"""Messages that may come at once after a silence."""
MAX_SEND_S = 30.0
"""Time in which the network has to take a message; a laptop that went to sleep takes none."""


class GuardedSocket:
    """Stands between a WebSocket and the studio, and closes it once it goes beyond a limit."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._is_closed = False
        self._allowance = float(BURST)
        self._seen = time.monotonic()

    async def receive(self) -> Message:
        """The next message; a disconnect where the visitor went beyond a limit."""
        message = await self._receive()
        code = self._broken_limit(message)
        if code is None:
            return message
        with contextlib.suppress(OSError):  # it has gone, or reads nothing
            await self.send({"type": "websocket.close", "code": code})
        self._is_closed = True
        return {"type": "websocket.disconnect", "code": code}

    async def send(self, message: Message) -> None:
        """Sends on; nothing once the guard has closed the socket. Raises TimeoutError, an OSError
        as that of a lost connection, where the visitor reads nothing."""
        if not self._is_closed:
            async with asyncio.timeout(MAX_SEND_S):
                await self._send(message)

    def _broken_limit(self, message: Message) -> int | None:
        """The close code of a limit that this message breaks."""
        if message["type"] != "websocket.receive":
            return None
        data = message.get("bytes") or (message.get("text") or "").encode()
        if len(data) > MAX_MESSAGE_BYTES:
            return TOO_LARGE
        now = time.monotonic()
        self._allowance += (now - self._seen) * MAX_MESSAGES_PER_S
        self._allowance = min(self._allowance, BURST) - 1
        self._seen = now
        return POLICY if self._allowance < 0 else None
