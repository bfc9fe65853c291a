"""Visitors in turn: nothing of what one uploads is in what the next one gets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from app import ui
from nbp_core.media.files import Frames
from nbp_core.media.video import read_context, write_video
from tests.support.engine import VALUES, fake_session, small_clips
from tests.support.odd_uploads import cases

MARKS = ((255, 0, 254), (0, 255, 1))
"""What the clips of the visitors before are full of."""
CASES = {name: case for name, case in cases().items() if not case.is_slow}
FEW = range(0, len(CASES), 70)


class Visitor:
    """Somebody who uses the studio by its API."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.folder = folder
        self.http = httpx.Client(timeout=100)

    def tokenize(self, name: str, data: bytes) -> Frames | str:
        """A file to tokens and back: the frames, or why there are none."""
        return self._frames("tokenize", ["fake", self._upload(name, data)])

    def continue_clip(self, name: str, data: bytes) -> Frames | str:
        """The five frames of a clip that begins with those of a file."""
        values = {**VALUES, "start": "clip", "clip": self._upload(name, data), "block": "1x16x16"}
        frames = self._frames("generate", list(values.values()))
        return frames if isinstance(frames, str) else frames[:5]

    def _upload(self, name: str, data: bytes) -> dict[str, Any]:
        sent = self.http.post(f"{self.url}gradio_api/upload", files={"files": (name, data)}).json()
        return {"path": sent[0], "meta": {"_type": "gradio.FileData"}}

    def _frames(self, endpoint: str, values: list[Any]) -> Frames | str:
        address = f"{self.url}gradio_api/call/{endpoint}"
        event = self.http.post(address, json={"data": values}).json()["event_id"]
        said = self.http.get(f"{address}/{event}").text
        data = json.loads(said.rpartition("data: ")[2])
        if "event: complete" not in said:
            return str(data["error"])
        made = self.folder / Path(data[0]["path"]).name
        made.write_bytes(self.http.get(data[0]["url"]).content)
        return read_context(made)


@pytest.fixture(scope="module")
def visitor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Visitor]:
    folder = tmp_path_factory.mktemp("visitors")
    session, _ = fake_session(folder / "models", step_s=0)
    blocks = ui.build(session)
    url = ui.launch(blocks, "127.0.0.1", None, None, prevent_thread_lock=True, quiet=True)
    with small_clips():
        yield Visitor(url, folder)
    blocks.close()
    session.close()


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    path = tmp_path_factory.mktemp("marked") / "marked.mp4"
    clips = []
    for mark in MARKS:
        write_video(path, np.broadcast_to(np.array(mark, np.uint8), (9, 240, 320, 3)))
        clips.append(path.read_bytes())
    return clips


def shows(result: Frames | str, mark: tuple[int, int, int], scale: float) -> bool:
    """Whether any pixel is the mark, darkened by `scale`."""
    if isinstance(result, str):
        return False
    wanted = np.array(mark) * scale
    return bool((np.abs(result.astype(float) - wanted).max(-1) < 12).any())


def test_a_mark_would_be_seen(visitor: Visitor, marked: list[bytes]) -> None:
    for mark, clip in zip(MARKS, marked, strict=True):
        # The stand-in's tokenizer gives everything back half as bright.
        assert shows(visitor.tokenize("own.mp4", clip), mark, 0.5)
        assert shows(visitor.continue_clip("own.mp4", clip), mark, 1)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if number in FEW else [pytest.mark.slow])
        for number, name in enumerate(CASES)
    ],
)
def test_nothing_of_a_visitor_is_in_the_next_ones_result(
    visitor: Visitor, marked: list[bytes], name: str
) -> None:
    case = CASES[name]
    results = []
    for clip in marked:
        visitor.tokenize("before.mp4", clip)
        visitor.continue_clip("before.mp4", clip)
        results.append(
            (
                visitor.tokenize(case.file_name, case.data()),
                visitor.continue_clip(case.file_name, case.data()),
            )
        )
    for scale, (first, second) in zip((0.5, 1), zip(*results, strict=True), strict=True):
        assert isinstance(first, str) == isinstance(second, str)
        for mark in MARKS:
            assert shows(first, mark, scale) == shows(second, mark, scale)


def test_what_gradio_keeps_of_closed_pages_has_a_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.ui.MAX_PAGES", 3, raising=False)
    session, _ = fake_session(tmp_path / "models")
    blocks = ui.build(session)
    url = ui.launch(blocks, "127.0.0.1", None, None, prevent_thread_lock=True, quiet=True)
    event = next(i for i, fn in blocks.fns.items() if fn.name == "_addressed")
    try:
        for page in (*range(6), 0):  # the first one comes back when it was forgotten
            sent = {"fn_index": event, "data": [], "session_hash": f"page {page}"}
            answer = httpx.post(f"{url}gradio_api/run/predict", json=sent, timeout=60)
            assert answer.status_code == 200
        assert len(blocks.state_holder.session_data) == 3
    finally:
        blocks.close()
        session.close()
