"""Opened clips: one masked forward in the worker thread, then the last few are kept."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from app.attention.clips import Clip
from app.clips.words import device_words, weights_words
from app.jobs import Job
from nbp_core.attention_maps.pictures import Levels
from nbp_core.config.shapes import Size3

if TYPE_CHECKING:
    from app.session import Session
    from nbp_core.attention_maps.view import AttentionView

MAX_OPENED = 4
"""Queries and keys of four clips: 8 MB each for the tiny model, 500 MB for the paper's largest."""

Key = tuple[str, str, str | None, Size3 | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Opened:
    """A clip's attention, and what it was measured with."""

    view: AttentionView
    thumbnails: Levels
    seconds: float
    """Duration of the masked forward pass, without tokenizing."""
    weights: str
    """'CPU, 2 cores, with weights tiny (f00dcafe) and tokenizer nano'."""
    identity: dict[str, Any]
    """Fingerprints of the model and its tokenizer."""


class Views:
    """Opens clips and remembers the last few."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._opened: OrderedDict[Key, Opened] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, clip: Clip, block_shape: Size3 | None) -> Opened:
        """The attention in a clip, read in blocks of a shape (None: the model's own).

        Waits for its turn behind running jobs. Raises ValueError when it cannot be opened.
        """
        key = (clip.key, clip.model, clip.action, block_shape)
        opened = self._remembered(key)
        if opened is None:
            # The job keeps no result: the list of finished jobs is of clips.
            job = self._session.jobs.submit(partial(self._work, clip, block_shape, key))
            job.finished.wait()
            opened = self._remembered(key)
            if opened is None:
                raise ValueError(job.error or "Stopped before the clip was opened.")
        return opened

    def _remembered(self, key: Key) -> Opened | None:
        present = self._session.loaded(key[1])
        with self._lock:
            opened = self._opened.get(key)
            if opened is None or (present is not None and present.identity != opened.identity):
                return None  # not opened yet, or by weights that were replaced since
            self._opened.move_to_end(key)
            return opened

    def _work(self, clip: Clip, block_shape: Size3 | None, key: Key, job: Job) -> None:
        if self._remembered(key) is not None:
            return  # a page that was loaded anew meanwhile asked for it twice
        with job.lending():
            pipeline = self._session.pipeline(clip.model)
        tokens_thw = clip.tokens_thw
        if tokens_thw is None:
            tokens_thw = pipeline.tokenize(clip.frames_THWC)
        began = time.perf_counter()
        view = pipeline.attention(tokens_thw, clip.action, block_shape)
        seconds = time.perf_counter() - began
        opened = Opened(
            view=view,
            thumbnails=view.thumbnails(),
            seconds=seconds,
            weights=f"{device_words(pipeline)}, with {weights_words(pipeline)}",
            identity=dict(pipeline.identity),
        )
        with self._lock:
            self._opened[key] = opened
            while len(self._opened) > MAX_OPENED:
                self._opened.popitem(last=False)
