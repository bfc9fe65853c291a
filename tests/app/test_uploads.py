"""Whatever is uploaded ends in frames or in one sentence: no traceback, no path, little memory."""

from __future__ import annotations

import re
import resource
import time
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest

from app import ui
from app.clips.form import Start
from app.clips.request import CONTEXT_FRAMES, read_start
from app.generate.restore import read_manifest
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
