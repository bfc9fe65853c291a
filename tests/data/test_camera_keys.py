"""A camera moved by keys over photographs and in panoramas."""

from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from nbp_core.config.shapes import CLIP_SIDE
from nbp_core.data.camera_keys import (
    CAMERA_KEYS,
    LOOK_KEYS,
    MOST_UP,
    PanoramaKeys,
    PhotoKeys,
    can_look,
    draw_many,
    is_inside,
    look,
    looked,
    moved,
)
from nbp_core.data.camera_moves import View
from nbp_core.media.files import MediaError


def picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    small = rng.integers(0, 255, (height // 16, width // 16, 3)).astype(np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "a.png"), picture(400, 600))
    return tmp_path


@pytest.fixture
def panoramas(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "a.png"), picture(256, 512))
    return tmp_path


def after(view: View, key: str, frames: int = 16) -> View:
    for _ in range(frames):
        view = moved(view, key)
    return view


def test_a_clip_has_four_frames_a_key(photos: Path) -> None:
    clip = PhotoKeys(photos).draw(8, np.random.default_rng(0))
    assert clip.frames_THWC.shape == (33, CLIP_SIDE, CLIP_SIDE, 3)
    assert len(clip.keys) == 8
    assert set(clip.keys) <= set(CAMERA_KEYS)


def test_still_frames_stand_still(photos: Path) -> None:
    source = PhotoKeys(photos)
    clips = list(draw_many(source, 12, 8, seed=1))
    stills = [(c, k) for c in clips for k, key in enumerate(c.keys) if key == "still"]
    assert stills
    for clip, k in stills:
        held = clip.frames_THWC[4 * k : 4 * k + 5]
        assert (held == held[0]).all()
    moves = [(c, k) for c in clips for k, key in enumerate(c.keys) if key != "still"]
    assert all((c.frames_THWC[4 * k + 4] != c.frames_THWC[4 * k]).any() for c, k in moves)


def test_the_same_seed_gives_the_same_clips(photos: Path) -> None:
    source = PhotoKeys(photos)
    first, second = (list(draw_many(source, 3, 4, seed=5)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.keys == other.keys
        np.testing.assert_array_equal(one.frames_THWC, other.frames_THWC)


def test_a_key_goes_the_way_of_a_camera_move() -> None:
    start = View(300, 200, 100)
    assert after(start, "pan-left").x == pytest.approx(300 - 25)
    assert after(start, "pan-up").y == pytest.approx(200 - 25)
    assert after(start, "zoom-in").side == pytest.approx(100 / 1.3)
    assert after(start, "turn-left").roll == pytest.approx(-math.radians(15))
    turned = View(300, 200, 100, math.pi / 2)
    assert after(turned, "pan-right").y == pytest.approx(225)  # its right points down there
    assert after(after(start, "turn-right"), "turn-left").roll == pytest.approx(0)


def test_views_never_leave_the_picture() -> None:
    assert is_inside(View(50, 50, 100), 600, 400)
    assert not is_inside(View(49, 50, 100), 600, 400)
    assert not is_inside(View(50, 50, 100, 0.1), 600, 400)
    assert not is_inside(View(300, 200, 90), 600, 400)


def test_looking_round_shifts_by_a_token_and_wraps(panoramas: Path) -> None:
    whole = picture(256, 512)
    place = (500, 0)
    for _ in range(4):
        place = looked(place, "pan-right")
    assert place == (508, 0)
    seen, before = look(whole, *place), look(whole, 500, 0)
    np.testing.assert_array_equal(seen[:, :-8], before[:, 8:])
    np.testing.assert_array_equal(look(whole, 512 + 7, 3), look(whole, 7, 3))
    np.testing.assert_array_equal(seen[:, 4:], whole[64:192, :124])


def test_looking_up_ends() -> None:
    assert can_look((0, 8 - MOST_UP), "pan-up")
    assert not can_look((0, 7 - MOST_UP), "pan-up")
    assert can_look((0, -MOST_UP), "pan-left")


def test_panorama_clips_know_their_keys(panoramas: Path) -> None:
    for clip in draw_many(PanoramaKeys(panoramas), 6, 8, seed=0):
        assert set(clip.keys) <= set(LOOK_KEYS)
        for k, key in enumerate(clip.keys):
            before, now = clip.frames_THWC[4 * k], clip.frames_THWC[4 * k + 4]
            if key == "pan-left":
                np.testing.assert_array_equal(now[:, 8:], before[:, :-8])
            if key == "pan-down":
                np.testing.assert_array_equal(now[:-8], before[8:])


def test_a_picture_of_another_shape_is_no_panorama(photos: Path) -> None:
    with pytest.raises(MediaError, match="no panorama"):
        PanoramaKeys(photos)


def test_a_bad_panorama_is_left_out_with_a_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cv2.imwrite(str(tmp_path / "good.jpeg"), picture(256, 512))
    cv2.imwrite(str(tmp_path / "other.png"), picture(400, 600))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "good.jpeg").read_bytes()[:60])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    assert PanoramaKeys(tmp_path).draw(1, np.random.default_rng(0)).keys
    assert "good" not in caplog.text
    for name in ("cut.jpg", "empty.jpg", "folder.jpg", "other.png"):
        assert f"left out: {name}" in caplog.text
