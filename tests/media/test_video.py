import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nbp_core.media import ffmpeg
from nbp_core.media.files import MediaError
from nbp_core.media.pictures import read_image
from nbp_core.media.video import (
    crop_resize,
    read_comment,
    read_context,
    read_video,
    write_gif,
    write_strip,
    write_video,
)


def smooth_clip(count: int = 9, height: int = 64, width: int = 96) -> np.ndarray:
    """A gradient that moves: survives video compression, shows order and orientation."""
    y, x = np.mgrid[:height, :width]
    channels = [x * 2, y * 3, (x + y)]
    frames = [np.stack([(c + 8 * t) % 256 // 2 + 40 for c in channels], -1) for t in range(count)]
    return np.stack(frames).astype(np.uint8)


def test_a_video_comes_back(tmp_path: Path) -> None:
    frames = smooth_clip()
    write_video(tmp_path / "a.mp4", frames, fps=8, comment='{"seed": 1, "text": "a=b; #c"}')
    again, fps = read_video(tmp_path / "a.mp4")
    assert again.shape == frames.shape
    assert fps == 8
    assert np.abs(again.astype(int) - frames).mean() < 4
    assert read_comment(tmp_path / "a.mp4") == '{"seed": 1, "text": "a=b; #c"}'
    assert np.array_equal(read_context(tmp_path / "a.mp4"), again)
    assert list(tmp_path.iterdir()) == [tmp_path / "a.mp4"]


def test_equal_frames_give_equal_files(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_video(tmp_path / name, smooth_clip(), comment="x")
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_pixels_are_enlarged_and_odd_sides_are_written(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", smooth_clip(height=32, width=32), scale=4)
    assert read_video(tmp_path / "a.mp4")[0].shape[1:3] == (128, 128)
    write_video(tmp_path / "odd.mp4", smooth_clip(height=33, width=47))
    assert read_video(tmp_path / "odd.mp4")[0].shape[1:3] == (34, 48)


def test_gif_and_strip(tmp_path: Path) -> None:
    frames = smooth_clip(5)
    write_gif(tmp_path / "a.gif", frames, scale=2)
    assert read_context(tmp_path / "a.gif").shape == (5, 128, 192, 3)
    write_strip(tmp_path / "a.png", frames)
    assert np.array_equal(read_image(tmp_path / "a.png")[:, 96:192], frames[1])
    assert read_comment(tmp_path / "a.gif") is None
    assert read_comment(tmp_path / "a.png") is None


def test_pictures_carry_a_comment_too(tmp_path: Path) -> None:
    text = json.dumps({"model": "tiny", "note": "é" * 400})
    write_gif(tmp_path / "a.gif", smooth_clip(3), comment=text)
    write_strip(tmp_path / "a.png", smooth_clip(3), comment=text)
    assert read_comment(tmp_path / "a.gif") == text
    assert read_comment(tmp_path / "a.png") == text


def test_a_comment_may_be_longer_than_a_command_line_and_have_any_letters(tmp_path: Path) -> None:
    text = "=;#\\ [STREAM] é\r\n;x=\n" + "x" * 300_000
    write_video(tmp_path / "a.mp4", smooth_clip(3), comment=text)
    assert read_comment(tmp_path / "a.mp4") == text
    write_video(tmp_path / "a.mp4", smooth_clip(3))
    assert read_comment(tmp_path / "a.mp4") is None


def clip_with_comment(path: Path, num_letters: int) -> None:
    """A clip of some programs' making: the comment is longer than a command line may be."""
    tags = path.with_suffix(".txt")
    tags.write_text(";FFMETADATA1\ncomment=" + "x" * num_letters + "\n")
    source: list[ffmpeg.Argument] = ["-f", "lavfi", "-i", "color=red:s=16x16:d=0.2:r=8"]
    tagged: list[ffmpeg.Argument] = ["-i", str(tags), "-map_metadata", "1", "-y", str(path)]
    assert ffmpeg.run([*source, *tagged]) is not None


def test_a_long_comment_is_read_in_little_memory_and_a_longer_one_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    clip_with_comment(path, 3_000_000)
    tracemalloc.start()
    try:
        assert read_comment(path) == "x" * 3_000_000
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
        clip_with_comment(path, 9_000_000)
        assert read_comment(path) is None
        assert tracemalloc.get_traced_memory()[1] < 100_000_000
    finally:
        tracemalloc.stop()
    clip_with_comment(path, 5_000_000)
    assert read_comment(path) is None


def test_a_gif_with_a_huge_comment_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Its reader would take hours for one of a gigabyte."""
    path = tmp_path / "a.gif"
    write_gif(path, smooth_clip(3), comment="x" * 1_000_000)
    assert read_comment(path) == "x" * 1_000_000
    whole = path.read_bytes()
    second = whole.index(b"!\xfe")
    longer = b"!\xfe" + (b"\xff" + b"x" * 255) * 20_000 + b"\0"
    path.write_bytes(whole[:second] + longer + whole[second:])
    with pytest.raises(MediaError, match=r"a\.gif has a comment that is too long"):
        read_image(path)
    path.write_bytes(whole[:second] + b"\0" + longer[:4_500_000])
    with pytest.raises(MediaError, match=r"a\.gif has a comment that is too long"):
        read_image(path)


def test_a_clip_is_enlarged_frame_by_frame(tmp_path: Path) -> None:
    """Five minutes of a play, enlarged at once, would be 4 GB, and copies of them."""
    frames = np.repeat(smooth_clip(1, 64, 64), 40, axis=0)
    tracemalloc.start()
    try:
        write_video(tmp_path / "a.mp4", frames, scale=4)
        assert tracemalloc.get_traced_memory()[1] < frames.nbytes
    finally:
        tracemalloc.stop()
    assert read_video(tmp_path / "a.mp4")[0].shape == (40, 256, 256, 3)


def test_a_clip_of_ours_may_take_longer_to_write_than_one_of_others_to_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A play of 900 keys, enlarged eightfold, takes minutes, and was lost at its end."""
    monkeypatch.setattr(ffmpeg, "SECONDS", 0.001)
    write_video(tmp_path / "a.mp4", smooth_clip())
    monkeypatch.undo()
    assert len(read_video(tmp_path / "a.mp4")[0]) == len(smooth_clip())


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "I;16", "1"])
def test_pictures_of_every_mode_arrive_as_rgb(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(smooth_clip(1)[0])
    if mode == "I;16":
        picture = Image.fromarray(smooth_clip(1)[0, :, :, 0].astype(np.uint16) * 257)
    else:
        picture = picture.convert(mode)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "I;16") else "a.png")
    picture.save(path)
    frame = read_image(path)
    assert frame.shape == (64, 96, 3)
    assert frame.dtype == np.uint8
    assert np.ptp(frame) > 50


def test_a_turned_photograph_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth_clip(1)[0]).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (96, 64, 3)


def test_crop_and_resize_keep_the_middle() -> None:
    frames = np.zeros((2, 100, 300, 3), np.uint8)
    frames[:, :, 100:200] = 255
    assert (crop_resize(frames, 50) == 255).all()
    frames[:, :, :100] = 7
    assert (crop_resize(frames, 50, at=0) == 7).all()
    assert (crop_resize(frames, 50, at=1) == 0).all()
    assert (crop_resize(frames.transpose(0, 2, 1, 3), 50, at=0) == 7).all()
    assert crop_resize(smooth_clip(1, 20, 30), 128).shape == (1, 128, 128, 3)


def make_text(path: Path) -> None:
    path.write_text("hello")


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_folder(path: Path) -> None:
    path.mkdir()


def make_truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])


def make_giant(path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(path)


def make_nothing(path: Path) -> None:
    assert not path.exists()


@pytest.mark.parametrize(
    "make", [make_text, make_empty, make_folder, make_truncated, make_giant, make_nothing]
)
def test_bad_pictures_are_refused_in_one_sentence_without_their_folder(
    tmp_path: Path, make: object
) -> None:
    path = tmp_path / "picture.png"
    assert callable(make)
    make(path)
    with pytest.raises(MediaError) as caught:
        read_context(path)
    assert "picture.png" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("make", [make_text, make_empty, make_folder, make_nothing])
def test_bad_videos_are_refused(tmp_path: Path, make: object) -> None:
    path = tmp_path / "clip.mp4"
    assert callable(make)
    make(path)
    with pytest.raises(MediaError, match=r"clip\.mp4"):
        read_video(path)


def test_a_clip_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"a\.mp4"):
        write_video(tmp_path / "nowhere" / "a.mp4", smooth_clip())
    with pytest.raises(MediaError):
        write_video(tmp_path / "a.mp4", smooth_clip(), pixel_format="nonsense")
    assert list(tmp_path.iterdir()) == []
