"""Where a play can start: a visitor's photograph."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.play.starts import MAX_OWN, Starts


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


def test_who_chooses_many_photographs_pushes_out_only_their_own(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    starts = Starts(None)
    mine = starts.add_photograph(tmp_path / "a.png", owner="me")
    others = [starts.add_photograph(tmp_path / "a.png", owner="other") for _ in range(MAX_OWN + 1)]
    assert starts.get(mine.id) is mine
    assert starts.get(others[-1].id) is others[-1]
    with pytest.raises(ValueError, match="This start was removed"):
        starts.get(others[0].id)
    for number in range(MAX_OWN):
        starts.add_photograph(tmp_path / "a.png", owner=f"new {number}")
    with pytest.raises(ValueError, match="This start was removed"):
        starts.get(others[-1].id)


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


def test_places_of_one_name_are_told_apart(tmp_path: Path) -> None:
    places = tmp_path / "play" / "places"
    places.mkdir(parents=True)
    for name in ("city-blender", "city-pmndrs", "lab-pmndrs"):
        Image.new("RGB", (8, 8)).save(places / f"{name}.jpg")
    titles = [start.title for start in Starts(tmp_path).of_kind("place")]
    assert titles == ["city", "city 2", "lab"]
