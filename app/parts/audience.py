"""Whether anybody reads the answers of a call of the API.

A program posts a call and then opens the stream of its answers. One that never does leaves them
unread: Gradio keeps them, and continues the call as if somebody waited.
"""

from __future__ import annotations

import time

from gradio.context import LocalContext

PATIENCE_S = 30.0
"""Seconds without a reader after which a call has none."""


class Audience:
    """The readers of the call that this thread works for."""

    def __init__(self) -> None:
        self._unread = 0
        self._heard = time.monotonic()

    def has_left(self) -> bool:
        """Whether for PATIENCE_S no answer was read; call it between answers."""
        unread = _num_unread()
        if unread == 0 or unread < self._unread:
            self._heard = time.monotonic()
        self._unread = unread
        return time.monotonic() - self._heard > PATIENCE_S


def _num_unread() -> int:
    """Answers that wait for a reader; 0 for a call that came another way than by Gradio's queue."""
    blocks, event_id = LocalContext.blocks.get(None), LocalContext.event_id.get(None)
    if blocks is None or event_id is None:
        return 0
    event = blocks._queue.event_ids_to_events.get(event_id)
    if event is None:
        return 0
    answers = blocks._queue.pending_messages_per_session.get(event.session_hash)
    return 0 if answers is None else answers.qsize()
