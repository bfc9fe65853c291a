import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from nbp_core.data.camera_moves import CAMERA_MOVES, PhotoClips, camera_move, num_validation_moves
from nbp_core.media.files import MediaError


@pytest.fixture
def picture() -> np.ndarray:
    """Soft random texture, so that motion can be measured."""
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    blurred = cv2.GaussianBlur(noise, (0, 0), 6).astype(float)
    stretched = (blurred - blurred.min()) / np.ptp(blurred) * 255
    return np.asarray(stretched, np.uint8)


def flow(frames: np.ndarray) -> np.ndarray:
    """Median motion of the picture between two neighbouring frames, (dx, dy) in pixels."""
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]
    motion = cv2.calcOpticalFlowFarneback(
        grey[0], grey[1], np.zeros((128, 128, 2), np.float32), 0.5, 3, 21, 5, 5, 1.1, 0
    )
    return np.asarray(motion)


@pytest.mark.parametrize("move", CAMERA_MOVES)
def test_shape_and_smoothness(picture: np.ndarray, move: str) -> None:
    frames = camera_move(picture, move, np.random.default_rng(1))
    assert frames.shape == (17, 128, 128, 3)
    assert frames.dtype == np.uint8
    steps = np.abs(np.diff(frames.astype(int), axis=0)).mean((1, 2, 3))
    assert steps.min() > 0.2
    assert steps.max() < 3 * steps.min() + 2


@pytest.mark.parametrize(
    ("move", "axis", "sign"),
    [("pan-left", 0, 1), ("pan-right", 0, -1), ("pan-up", 1, 1), ("pan-down", 1, -1)],
)
def test_the_camera_moves_so_the_picture_goes_the_other_way(
    picture: np.ndarray, move: str, axis: int, sign: int
) -> None:
    motion = np.median(flow(camera_move(picture, move, np.random.default_rng(2))), axis=(0, 1))
    assert motion[axis] * sign > 0.5
    assert abs(motion[1 - axis]) < 0.5


def test_a_pan_goes_on_by_a_token_from_latent_frame_to_latent_frame(picture: np.ndarray) -> None:
    frames = camera_move(picture, "pan-right", np.random.default_rng(2)).astype(int)
    beside = np.abs(frames[4:, :, :-8] - frames[:-4, :, 8:])
    assert beside.max() <= 2
    faster = camera_move(picture, "pan-right", np.random.default_rng(2), pace=2).astype(int)
    assert np.abs(faster[4:, :, :-16] - faster[:-4, :, 16:]).max() <= 2


@pytest.mark.parametrize(("move", "sign"), [("zoom-in", 1), ("zoom-out", -1)])
def test_a_zoom_goes_outwards_or_inwards(picture: np.ndarray, move: str, sign: int) -> None:
    motion = flow(camera_move(picture, move, np.random.default_rng(3)))
    outwards = motion[:, 96:, 0].mean() - motion[:, :32, 0].mean()
    assert outwards * sign > 0.3


@pytest.mark.parametrize(("move", "sign"), [("turn-left", 1), ("turn-right", -1)])
def test_a_turn_rolls_the_picture_the_other_way(picture: np.ndarray, move: str, sign: int) -> None:
    motion = flow(camera_move(picture, move, np.random.default_rng(4)))
    clockwise = motion[:32, :, 0].mean() - motion[96:, :, 0].mean()
    assert clockwise * sign > 0.3


def test_unknown_moves_and_empty_folders_are_refused(picture: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'fly' is not one of"):
        camera_move(picture, "fly", np.random.default_rng(0))
    with pytest.raises(MediaError, match="no picture that can be read"):
        PhotoClips(tmp_path)


def test_photo_clips_are_drawn_from_the_seed_alone(picture: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(picture).save(tmp_path / "a.png")
    photos = PhotoClips(tmp_path, seed=7)
    first, second = (list(photos.draw_many(16)) for _ in range(2))
    assert [move for _, move in first] == [*CAMERA_MOVES, *CAMERA_MOVES]
    for clip, again in zip(first, second, strict=True):
        assert np.array_equal(clip[0], again[0])
    for drawn in (PhotoClips(tmp_path, seed=8), PhotoClips(tmp_path, seed=7, max_pace=3)):
        (other,) = drawn.draw_many(1)
        assert other[1] == first[0][1]
        assert not np.array_equal(other[0], first[0][0])


def test_pictures_that_cannot_be_read_are_left_out_with_a_line_each(
    picture: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(picture).save(tmp_path / "good.png")
    Image.fromarray(picture).save(tmp_path / os.fsdecode(b"\xe9.jpg"))
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "._a.JPG").write_bytes(b"\0\5\x16\7" + bytes(80))
    (tmp_path / "folder.jpg").mkdir()
    Image.new("1", (9000, 9000)).save(tmp_path / "giant.png")
    assert len(PhotoClips(tmp_path)) == 2
    *lines, count = [record.getMessage() for record in caplog.records]
    assert len(lines) == 5
    for name in ("cut.png", "empty.jpg", "._a.JPG", "folder.jpg", "giant.png"):
        assert sum(name in line for line in lines) == 1
    assert count.startswith("5 of the 7 pictures of ")


def test_photographs_that_are_not_even_opened_are_counted_and_named(
    picture: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "deeper").mkdir()
    Image.fromarray(picture).save(tmp_path / "deeper" / "good.png")
    for name in ("deeper/a.CR3", "b.cr2", ".hidden", "notes.txt"):
        (tmp_path / name).touch()
    assert len(PhotoClips(tmp_path)) == 1
    (record,) = caplog.records
    assert record.getMessage() == (
        f"2 files of {tmp_path.name} skipped, because they have no suffix of a picture that can be "
        "read: b.cr2, a.CR3"
    )


@pytest.mark.parametrize("count", [1, 3, 6, 8, 9, 400])
def test_each_move_that_is_trained_on_is_validated(tmp_path: Path, count: int) -> None:
    Image.fromarray(np.zeros((200, 200, 3), np.uint8)).save(tmp_path / "a.png")
    photos = PhotoClips(tmp_path)
    train = {CAMERA_MOVES[index % len(CAMERA_MOVES)] for index in range(count)}
    assert {move for _, move in photos.draw_many(min(count, 16))} == train
    assert {move for _, move in photos.draw_many(num_validation_moves(count))} == train
