"""Frames are taken by time, at the rate that models continue them at."""

from __future__ import annotations

import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nbp_core.media.files import MediaError
from nbp_core.media.video import read_context, read_video, read_window, read_windows, write_gif
from tests.support.charts import encode, error, numbered, numbers

LOSSLESS = "-c:v ffv1"


def at_rate(folder: Path, count: int, fps: str) -> Path:
    return encode(folder / "a.mkv", numbered(count), LOSSLESS, fps)


@pytest.mark.parametrize(
    ("fps", "expected"),
    [("60", [0, 8, 15, 23, 30]), ("30", [0, 4, 7, 11, 15]), ("25", [0, 3, 6, 9, 12]),
     ("24000/1001", [0, 3, 6, 9, 12]), ("16", [0, 2, 4, 6, 8]), ("8", [0, 1, 2, 3, 4]),
     ("4", [0, 0, 1, 1, 2]), ("1/10", [0, 0, 0, 0, 0])],
)  # fmt: skip
def test_five_frames_span_half_a_second(tmp_path: Path, fps: str, expected: list[int]) -> None:
    assert numbers(read_context(at_rate(tmp_path, 40, fps), 5)) == expected


def test_a_clip_at_the_rate_of_models_comes_unchanged(tmp_path: Path) -> None:
    path = at_rate(tmp_path, 17, "8")
    whole, fps = read_video(path)
    assert (numbers(whole), fps) == (list(range(17)), 8)
    for frames in (read_context(path), read_context(path, 17), read_window(path, 17)):
        assert np.array_equal(frames, whole)
    (batch,) = read_windows([path], 17)
    assert np.array_equal(np.asarray(batch), whole)


@pytest.mark.parametrize(
    ("count", "fps", "expected"),
    [(5, "60", [0, 1, 2, 3, 4]), (9, "30", [0, 2, 4, 6, 8]), (5, "10", [0, 1, 2, 3, 4]),
     (8, "480", [0, 2, 4, 5, 7]), (4, "8", [0, 1, 2, 3]), (3, "60", [0, 1, 2])],
)  # fmt: skip
def test_a_short_clip_gives_its_own_frames(
    tmp_path: Path, count: int, fps: str, expected: list[int]
) -> None:
    assert numbers(read_context(at_rate(tmp_path, count, fps), 5)) == expected


def test_more_frames_may_be_asked_for_than_a_clip_lasts(tmp_path: Path) -> None:
    path = at_rate(tmp_path, 30, "30")
    assert numbers(read_context(path, 17)) == [0, 4, 7, 11, 15, 19, 22, 26]
    assert len(read_context(path, 9, min_frames=9)) == 9
    assert len(read_context(path, 40, min_frames=40)) == 30


def test_a_window_is_the_middle_of_a_long_clip(tmp_path: Path) -> None:
    found = numbers(read_window(at_rate(tmp_path, 50, "5"), 17))
    # 10 s of five frames a second; two seconds of the middle are ten of them.
    assert np.abs(np.mean(found) - 24.5) <= 1
    assert found[-1] - found[0] == 10
    assert numbers(read_window(at_rate(tmp_path, 27, "8"), 17)) == list(range(5, 22))


UNINDEXED = {
    "h264.mpg": "-c:v libx264 -preset veryfast -g 25 -bf 2 -pix_fmt yuv420p -f vob",
    "hevc.mpg": "-c:v libx265 -preset ultrafast -x265-params log-level=0:keyint=25 -f vob",
    "mpeg4.mpg": "-c:v mpeg4 -q:v 3 -g 25 -f vob",
    "mpeg4.ts": "-c:v mpeg4 -q:v 3 -g 25",
    "h264.ts": "-c:v libx264 -preset veryfast -g 25 -bf 2 -pix_fmt yuv420p",
}


@pytest.mark.parametrize("name", UNINDEXED)
def test_a_window_of_a_container_without_an_index_has_every_frame(
    tmp_path: Path, name: str
) -> None:
    # Long enough that its middle is sought.
    frames = np.concatenate([numbered(53)] * 5).astype(int)
    noise = np.random.default_rng(0).integers(-6, 7, frames.shape)
    noisy = (frames + noise).clip(0, 255).astype(np.uint8)
    window = read_window(encode(tmp_path / name, noisy, UNINDEXED[name]), 17)
    assert max(map(error, window)) <= 5
    # The numbers begin again after 52; one may be read wrongly by one.
    steps = (np.array(numbers(window)) - numbers(window)[0]) % 53
    assert np.abs(steps - np.arange(17)).max() <= 1


@pytest.mark.parametrize(("count", "fps"), [(30, "30"), (10, "8"), (5, "60"), (2, "8")])
def test_a_short_window_is_spread_over_the_whole_clip(tmp_path: Path, count: int, fps: str) -> None:
    path = at_rate(tmp_path, count, fps)
    (batch, again) = read_windows([path, path], 17)
    for frames in (read_window(path, 17), batch, again):
        assert not isinstance(frames, MediaError)
        found = numbers(frames)
        assert (len(found), found[0], found[-1]) == (17, 0, count - 1)
        assert set(np.diff(found)) <= {0, 1, 2}


@pytest.mark.parametrize("fps", ["1/3", "1/10"])
def test_one_long_frame_is_no_clip_among_others_either(tmp_path: Path, fps: str) -> None:
    clip = encode(tmp_path / "clip.mkv", numbered(17), LOSSLESS, "8")
    still = encode(tmp_path / "still.mkv", numbered(1), LOSSLESS, fps)
    with pytest.raises(MediaError, match="one frame"):
        read_window(still, 17)
    among = list(read_windows([clip, still, clip], 17))
    assert [isinstance(found, MediaError) for found in among] == [False, True, False]
    assert "still.mkv has one frame" in str(among[1])


def test_frames_that_end_before_the_sound_are_a_clip_among_others_too(tmp_path: Path) -> None:
    sound = f"-f lavfi -i sine=d=10 -map 0:v -map 1:a {LOSSLESS} -c:a pcm_s16le"
    path = encode(tmp_path / "a.mkv", numbered(10), sound, "8")
    alone = read_window(path, 17)
    assert numbers(alone)[-1] == 9
    for among in read_windows([path, path], 17):
        assert np.array_equal(np.asarray(among), alone)


def test_a_variable_frame_rate_is_followed(tmp_path: Path) -> None:
    # Twenty frames in the first second, then four a second.
    steps = "if(lt(N,20),N/20,1+(N-20)/4)"
    options = (
        f"-vf settb=1/1000,setpts='({steps})/TB' -fps_mode vfr -enc_time_base 1/1000 {LOSSLESS}"
    )
    path = encode(tmp_path / "a.mkv", numbered(36), options)
    times = [Fraction(k, 8) for k in range(17)]
    shown = [int(20 * t) if t < 1 else 20 + int(4 * (t - 1)) for t in times]
    assert numbers(read_context(path, 17)) == shown
    assert numbers(read_video(path)[0]) == list(range(36))


def with_times(path: Path, seconds: str, count: int) -> Path:
    """Numbered frames, the Nth at so many seconds."""
    times = f"-vf settb=1/1000,setpts='({seconds})/TB' -fps_mode vfr -enc_time_base 1/1000"
    return encode(path, numbered(count), f"{times} {LOSSLESS}")


def test_a_pause_of_a_day_is_as_good_as_a_short_one(tmp_path: Path) -> None:
    path = with_times(tmp_path / "a.mkv", "if(lt(N,3),N/8,100000+N/8)", 9)
    start = time.monotonic()
    assert numbers(read_context(path, 5)) == [0, 1, 2, 2, 2]
    assert len(read_window(path, 17)) == 17
    assert time.monotonic() - start < 5


def test_times_need_not_begin_at_zero(tmp_path: Path) -> None:
    path = with_times(tmp_path / "a.mkv", "500+N/8", 40)
    assert numbers(read_context(path, 5)) == [0, 1, 2, 3, 4]
    window = numbers(read_window(path, 17))
    assert np.diff(window).tolist() == [1] * 16


def animated(path: Path, durations_ms: list[int]) -> Path:
    first, *others = (Image.fromarray(frame) for frame in numbered(len(durations_ms)))
    options: dict[str, Any] = {"lossless": True} if path.suffix == ".webp" else {}
    if path.suffix == ".avif":
        options = {"quality": 100}
    first.save(path, save_all=True, append_images=others, duration=durations_ms, loop=0, **options)
    return path


@pytest.mark.parametrize("kind", ["gif", "webp", "avif", "png"])
def test_animated_pictures_are_taken_by_time(tmp_path: Path, kind: str) -> None:
    path = animated(tmp_path / f"a.{kind}", [250, 60, 60, 500, 130, 1000, 400])
    starts = np.cumsum([0, 250, 60, 60, 500, 130, 1000]) / 1000
    shown = [int(np.searchsorted(starts, k / 8 + 0.011, "right")) - 1 for k in range(17)]
    assert np.abs(np.subtract(numbers(read_context(path, 17)), shown)).max() <= (kind == "gif")
    assert len(read_window(path, 17)) == 17


@pytest.mark.parametrize("count", [4, 5, 9])
def test_rounded_durations_make_no_frame_more(tmp_path: Path, count: int) -> None:
    path = animated(tmp_path / "a.gif", [*([130, 120] * 4)[: count - 1], 130])
    assert numbers(read_context(path, 17)) == list(range(count))


@pytest.mark.parametrize("kind", ["gif", "webp", "avif", "png"])
def test_short_animated_pictures_give_their_own_frames(tmp_path: Path, kind: str) -> None:
    path = animated(tmp_path / f"a.{kind}", [20] * 8)
    frames = read_context(path, 5)
    assert len(frames) == 5
    window = read_window(path, 17)
    assert len(window) == 17
    assert len(np.unique(window.reshape(17, -1), axis=0)) >= 7


def test_a_gif_of_ours_comes_back_frame_by_frame(tmp_path: Path) -> None:
    frames = np.repeat(np.linspace(0, 240, 17).astype(np.uint8)[:, None, None, None], 3, -1)
    frames = frames.repeat(32, 1).repeat(32, 2)
    write_gif(tmp_path / "a.gif", frames)
    again = read_context(tmp_path / "a.gif", 17)
    assert np.abs(again.astype(int) - frames).max() <= 2


def test_a_still_picture_is_no_clip(tmp_path: Path) -> None:
    Image.fromarray(numbered(1)[0]).save(tmp_path / "a.webp")
    with pytest.raises(MediaError, match="does not move"):
        read_window(tmp_path / "a.webp", 17)


@pytest.mark.parametrize("kind", ["gif", "webp", "avif", "png"])
def test_a_slide_show_is_a_clip(tmp_path: Path, kind: str) -> None:
    """Also where its first frame is shown for longer than the frames that are taken."""
    path = animated(tmp_path / f"a.{kind}", [1000] * 4)
    assert numbers(read_context(path, 5, min_frames=5)) == [0] * 5
    assert numbers(read_context(path, 10)) == [0] * 8 + [1] * 2


def test_a_frame_may_be_shown_for_years(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = animated(tmp_path / "a.gif", [100] * 3)
    monkeypatch.setattr("nbp_core.media.video.frame_seconds", lambda *_, **__: [1e12] * 3)
    assert numbers(read_context(path, 5)) == [0] * 5
    assert numbers(read_window(path, 17)) == [1] * 17


def test_what_other_programs_show_instead_of_an_animation_is_no_frame(tmp_path: Path) -> None:
    other, *frames = (Image.fromarray(frame) for frame in numbered(6)[::-1])
    path = tmp_path / "a.png"
    other.save(path, save_all=True, append_images=frames, duration=125, default_image=True)
    assert numbers(read_context(path, 17)) == [4, 3, 2, 1, 0]
    assert set(numbers(read_window(path, 17))) == {4, 3, 2, 1, 0}
    assert numbers(read_context(path, 1)) == [4]
