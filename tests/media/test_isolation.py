"""What one visitor uploads never reaches another: not by memory, by name or by a failed reader."""

from __future__ import annotations

import stat
import time
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from nbp_core.media import ffmpeg
from nbp_core.media.decode import decode
from nbp_core.media.files import Frames, MediaError
from nbp_core.media.filters import Take
from nbp_core.media.video import read_context, read_window, write_video
from tests.support.charts import encode, numbered
from tests.support.odd_uploads import cases

MARKS = ((255, 0, 254), (0, 255, 1))
PAM = "P7\\nWIDTH 8\\nHEIGHT 8\\nDEPTH 3\\nMAXVAL 255\\nTUPLTYPE RGB\\nENDHDR\\n"
CASES = {name: case for name, case in cases().items() if not case.is_slow}


@pytest.fixture(scope="module")
def visitors(tmp_path_factory: pytest.TempPathFactory) -> list[list[Path]]:
    """For each mark, files that are full of it."""
    found = []
    for mark in MARKS:
        folder = tmp_path_factory.mktemp("visitor")
        frames = np.broadcast_to(np.array(mark, np.uint8), (9, 240, 320, 3))
        files = [folder / "a.png", folder / "a.gif", folder / "a.webp"]
        first, *others = map(Image.fromarray, frames)
        for file in files:
            first.save(file, save_all=file.suffix != ".png", append_images=others, duration=125)
        write_video(folder / "a.mp4", frames)
        files += [folder / "a.mp4", encode(folder / "a.avi", frames, "-c:v mjpeg -q:v 2")]
        found.append(files)
    return found


def outcome(path: Path) -> list[Frames | str]:
    found: list[Frames | str] = []
    for read in (read_context, lambda path: read_window(path, 17)):
        try:
            found.append(read(path))
        except MediaError as error:
            found.append(str(error))
    return found


def shows(result: Frames | str, mark: tuple[int, int, int]) -> bool:
    if isinstance(result, str):
        return False
    return bool((np.abs(result.astype(int) - mark).max(-1) < 12).any())


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if number % 4 else [])
        for number, name in enumerate(CASES)
    ],
)
def test_no_pixel_of_a_visitor_is_in_the_next_ones_result(
    tmp_path: Path, visitors: list[list[Path]], name: str
) -> None:
    path = tmp_path / CASES[name].file_name
    path.write_bytes(CASES[name].data())
    results = []
    for number, files in enumerate(visitors):
        # One that is read alike and one that is not, of the visitor before.
        read_context(files[len(name) % len(files)])
        read_context(files[(len(name) + 2 + number) % len(files)])
        results.append(outcome(path))
    for first, second in zip(*results, strict=True):
        assert isinstance(first, str) == isinstance(second, str)
        # A damaged stream may show its own frames in another order: the marks tell the visitors.
        for mark in MARKS:
            assert shows(first, mark) == shows(second, mark)


INTERLACED = {
    "h264.mp4": "-c:v libx264 -x264opts tff=1 -pix_fmt yuv420p",
    "mpeg4.avi": "-c:v mpeg4 -q:v 2 -flags +ildct+ilme",
    "mpeg2.mpg": "-c:v mpeg2video -q:v 2 -flags +ildct+ilme",
}


@pytest.mark.parametrize("name", INTERLACED)
def test_no_pixel_of_a_marked_clip_is_in_an_interlaced_one(
    tmp_path: Path, visitors: list[list[Path]], name: str
) -> None:
    path = encode(tmp_path / name, numbered(20, 320, 240), INTERLACED[name], "25")
    for files, mark in zip(visitors, MARKS, strict=True):
        for file in files:
            read_context(file)
            frames = read_context(path, 5)
            assert (np.abs(frames.astype(int) - mark).max(-1) > 30).all()


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A reader that fails: `$out` is the file that frames are expected in."""
    program = folder / "ffmpeg"
    program.write_text(f'#!/bin/sh\nfor out; do :; done\nout="${{out#file:}}"\n{script}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", lambda: str(program))


FAILURES = {
    "nothing": "exit 0",
    "an error": "exit 1",
    "half a header": "printf 'P7\\nWIDTH 8' > \"$out\"",
    "a header": f"printf '{PAM}' > \"$out\"",
    "half a frame": f"printf '{PAM}%096d' 0 > \"$out\"",
    "a frame and a half": f"printf '{PAM}%0192d{PAM}%096d' 0 0 > \"$out\"",
    "a frame, then death": f"printf '{PAM}%0192d' 0 > \"$out\"; kill -9 $$",
    "a frame, then an error": f"printf '{PAM}%0192d' 0 > \"$out\"; exit 1",
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_reader_that_fails_half_way_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    write_video(tmp_path / "a.mp4", numbered(6))
    stand_in(tmp_path, monkeypatch, FAILURES[kind])
    for read in (read_context, lambda path: read_window(path, 17)):
        with pytest.raises(MediaError, match=r"^a\.mp4 is damaged"):
            read(tmp_path / "a.mp4")


def test_a_whole_frame_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", numbered(6))
    stand_in(tmp_path, monkeypatch, f"printf '{PAM}%0192d' 0 > \"$out\"")
    assert (read_context(tmp_path / "a.mp4", 1) == ord("0")).all()


def test_a_reader_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", numbered(6))
    stand_in(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(ffmpeg, "SECONDS", 0.3)
    began = time.perf_counter()
    with pytest.raises(MediaError, match=r"a\.mp4 takes too long to read"):
        read_context(tmp_path / "a.mp4")
    assert time.perf_counter() - began < 5


def test_a_reader_ends_with_the_one_who_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "echo $$ > \"$0.pid\"; echo '[info] Stream mapping:' >&2; exec sleep 60"
    stand_in(tmp_path, monkeypatch, script)

    def interrupted(log: list[str]) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ffmpeg.run_logged([], interrupted, "info")
    process = Path("/proc", (tmp_path / "ffmpeg.pid").read_text().strip())
    assert not process.exists()


LISTS: dict[str, Callable[[Path], str]] = {
    "a.ffconcat": lambda other: f"ffconcat version 1.0\nfile '{other}'\n",
    "a.m3u8": lambda other: f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{other}\n",
    "a.mp4": lambda other: f"ffconcat version 1.0\nfile '{other}'\n",
    "a.sdp": lambda other: "v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5000 RTP/AVP 96\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_opens_no_other_file(tmp_path: Path, name: str) -> None:
    other = tmp_path / "other.mp4"
    write_video(other, numbered(6))
    (tmp_path / name).write_text(LISTS[name](other))
    with pytest.raises(MediaError):
        read_context(tmp_path / name)
    # Not even where the look at its first bytes is passed by.
    with pytest.raises(MediaError):
        decode(tmp_path / name, lambda source: Take(count=5))
