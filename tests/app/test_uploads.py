"""Whatever is uploaded ends in frames or in one sentence: no traceback, no path, little memory."""

from __future__ import annotations

import os
import re
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import httpx
import numpy as np
import pytest

from app import ui
from app.clips.form import Start
from app.clips.request import CONTEXT_FRAMES, read_start
from app.folders import UPLOADS, num_bytes
from app.generate.restore import read_manifest
from app.parts.uploads import as_upload
from app.session import Session
from tests.support.engine import fake_session
from tests.support.odd_uploads import Case, cases

CASES = cases()
STARTS: tuple[Start, ...] = ("frame", "clip")
MAX_SECONDS = 60.0
"""Generous, for a busy machine; on an idle one the slowest takes about three."""
MAX_EXTRA_KIB = 1_000_000


def params() -> list[Any]:
    return [
        pytest.param(case, id=name, marks=[pytest.mark.slow] if case.is_slow else [])
        for name, case in CASES.items()
    ]


def result_of(start: Start, path: Path) -> str | None:
    """The sentence a file is refused with; None when it gave good frames."""
    try:
        files = {"frame": (str(path), None), "clip": (None, str(path))}
        frames = read_start(start, *files[start])
    except ValueError as error:
        return str(error)
    assert frames is not None
    assert frames.shape == (CONTEXT_FRAMES[start], 128, 128, 3)
    assert frames.dtype == np.uint8
    return None


def assert_is_a_sentence(text: str, path: Path) -> None:
    assert re.fullmatch(r"[^\n]{10,200}\.", text), text
    assert path.parent.name not in text
    assert "Error" not in text
    assert text.count(". ") == 0


def test_there_are_more_than_two_hundred() -> None:
    assert len(CASES) > 200


@pytest.mark.parametrize("case", params())
def test_an_upload_is_frames_or_one_sentence(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.file_name
    path.write_bytes(case.data())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    sentences = [result_of(start, path) for start in STARTS]
    with pytest.raises(ValueError, match=r"\.$") as caught:
        read_manifest(path)
    assert time.perf_counter() - begun < MAX_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MAX_EXTRA_KIB
    for sentence in filter(None, [*sentences, str(caught.value)]):
        assert_is_a_sentence(sentence, path)
    assert {"frames": None in sentences, "refused": None not in sentences, "either": True}[
        case.verdict
    ], sentences


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """A session that takes 1 MB of uploads."""
    # Those of other tests' studios in this process, and their limits, do not count.
    monkeypatch.setattr(UPLOADS, "_owners", {})
    monkeypatch.setattr(UPLOADS, "_folder", Path())
    monkeypatch.setenv("GRADIO_TEMP_DIR", "")
    session, _ = fake_session(tmp_path / "models", max_bytes=250_000)
    yield session
    session.close()


@pytest.fixture
def small(session: Session, request: pytest.FixtureRequest) -> Iterator[tuple[str, Path]]:
    """Where a studio takes uploads, and their folder; its parameter: a password."""
    blocks = ui.build(session)
    auth = getattr(request, "param", None)
    url = ui.launch(blocks, "127.0.0.1", None, auth, prevent_thread_lock=True, quiet=True)
    yield f"{url}gradio_api/upload", session.uploads
    blocks.close()


def test_uploads_beyond_the_limit_are_refused_until_older_ones_can_go(
    small: tuple[str, Path],
) -> None:
    address, folder = small

    def send(name: str) -> int:
        files = {"files": (name, os.urandom(300_000))}
        return httpx.post(address, files=files, timeout=60).status_code

    assert [send(f"{number}.png") for number in range(5)] == [200, 200, 200, 507, 507]
    assert num_bytes(folder) == 900_000
    first = next(folder.rglob("0.png"))
    os.utime(first, (0, 0))
    assert send("new.png") == 200
    assert not first.exists()
    assert num_bytes(folder) == 900_000


def test_an_old_file_that_was_just_chosen_stays(session: Session, tmp_path: Path) -> None:
    (tmp_path / "example.png").write_bytes(os.urandom(300_000))
    os.utime(tmp_path / "example.png", (0, 0))
    chosen = Path(as_upload(session, tmp_path / "example.png"))
    with pytest.raises(OSError, match="reached their limit"):
        UPLOADS.make_room(900_000)
    assert chosen.exists()


def test_a_length_that_never_fits_deletes_nothing(small: tuple[str, Path]) -> None:
    address, folder = small
    assert httpx.post(address, files={"files": ("a.png", b"old")}, timeout=60).status_code == 200
    os.utime(next(folder.rglob("a.png")), (0, 0))
    files = {"files": ("b.png", os.urandom(1_000_001))}
    assert httpx.post(address, files=files, timeout=60).status_code == 507
    assert next(folder.rglob("a.png")).read_bytes() == b"old"


def test_a_refused_upload_deletes_nothing(session: Session) -> None:
    old, fresh = session.uploads / "old.png", session.uploads / "fresh.png"
    old.write_bytes(bytes(300_000))
    fresh.write_bytes(bytes(600_000))
    os.utime(old, (0, 0))
    with pytest.raises(OSError, match="reached their limit"):
        UPLOADS.make_room(500_000)
    assert old.exists()
    UPLOADS.make_room(400_000)
    assert [old.exists(), fresh.exists()] == [False, True]


@pytest.mark.parametrize("small", [("user", "secret")], indirect=True)
def test_who_gave_no_password_makes_no_upload_go(small: tuple[str, Path]) -> None:
    address, folder = small
    (folder / "old.png").write_bytes(bytes(900_000))
    os.utime(folder / "old.png", (0, 0))
    files = {"files": ("a.png", os.urandom(900_000))}
    assert httpx.post(address, files=files, timeout=60).status_code == 401
    assert (folder / "old.png").exists()


def test_an_upload_that_tells_no_length_is_refused_while_it_comes(
    small: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.folders.LOOK_BYTES", 200_000)
    address, folder = small

    def body() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        for _ in range(80):
            yield os.urandom(100_000)
        yield b"\r\n--x--\r\n"

    kind = {"content-type": "multipart/form-data; boundary=x"}
    answer = httpx.post(address, content=body(), headers=kind, timeout=60)
    assert answer.status_code == 507
    assert num_bytes(folder) < 2_000_000


def test_no_slider_fails_while_its_number_is_typed(tmp_path: Path) -> None:
    """Its field is empty for a moment, and the page asks at every change."""
    session, _ = fake_session(tmp_path / "models")
    blocks = ui.build(session)
    try:
        sliders = [part for part in blocks.blocks.values() if isinstance(part, gr.Slider)]
        assert len(sliders) > 10
        for slider in sliders:
            slider.preprocess(None)  # type: ignore[arg-type]
    finally:
        blocks.close()
        session.close()
