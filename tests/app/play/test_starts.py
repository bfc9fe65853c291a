"""Where a play can start: a visitor's photograph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.play.starts import Starts


def test_a_photograph_starts_from_the_square_that_was_chosen(tmp_path: Path) -> None:
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, :64, 0] = wide[:, 128:, 2] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    starts = Starts(None)
    colours = []
    for crop in (0.0, 0.5, 1.0):
        start = starts.add_photograph(tmp_path / "wide.png", crop)
        frame_HWC = starts.get(start.id).first_frame()
        assert frame_HWC is not None
        colours.append(tuple(frame_HWC[64, 64]))
    assert colours == [(255, 0, 0), (0, 0, 0), (0, 0, 255)]


def test_a_scene_that_cannot_be_read_has_no_picture(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "play").mkdir()
    label = {"scene": "soccer", "look": "stock", "keys": "up*3"}
    (tmp_path / "play" / "soccer.json").write_text(json.dumps(label))
    (tmp_path / "play" / "soccer.mp4").write_bytes(b"no video")
    start = Starts(tmp_path).first
    assert start.has_episode
    assert start.picture_uri() == ""
    assert "soccer.mp4" in caplog.text
