"""Any name that the file system takes can be read and written, and is shown on one line."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nbp_core.media.files import MediaError, printable_name, shown_name
from nbp_core.media.pictures import read_image
from nbp_core.media.video import (
    read_comment,
    read_context,
    read_window,
    write_gif,
    write_strip,
    write_video,
)
from tests.support.charts import numbered

STEMS = {
    "bytes": os.fsdecode(b"cl\xe9ment"),
    "unicode": "Übung 日本語 🎬",
    "dash": "-y",
    "two lines": "first\nsecond",
    "percent": "frame%03d",
    "address": "http:x",
    "quotes": 'it\'s "a" [clip];b',
    "longest": "n" * 250,
    "dots": "...",
}


def try_all(folder: Path, stem: str) -> None:
    frames = numbered(17)
    clip, picture, moving = (folder / (stem + suffix) for suffix in (".mp4", ".png", ".gif"))
    write_video(clip, frames, comment="a")
    write_strip(picture, frames[:2], comment="b")
    write_gif(moving, frames, comment="c")
    assert read_context(clip, 5).shape == (5, 120, 160, 3)
    assert read_window(clip, 17).shape == (17, 120, 160, 3)
    assert read_image(picture).shape == (120, 320, 3)
    assert read_context(moving, 5).shape == (5, 120, 160, 3)
    assert [read_comment(path) for path in (clip, picture, moving)] == ["a", "b", "c"]
    assert len(list(folder.iterdir())) == 3


@pytest.mark.parametrize("kind", STEMS)
def test_any_name_is_read_and_written(tmp_path: Path, kind: str) -> None:
    try_all(tmp_path, STEMS[kind])


def test_names_relative_to_the_folder_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try_all(Path(), "-i")


@pytest.mark.parametrize("utf8", ["1", "0"])
@pytest.mark.parametrize("kind", ["bytes", "unicode"])
def test_any_name_in_the_c_locale(tmp_path: Path, kind: str, utf8: str) -> None:
    script = (
        "import os, sys; from pathlib import Path; from tests.media.test_names import try_all;"
        "try_all(Path(sys.argv[1]), os.fsdecode(bytes.fromhex(sys.argv[2])))"
    )
    stem = os.fsencode(STEMS[kind]).hex()
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": utf8, "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", script, str(tmp_path), stem], check=True, env=environment)


def test_links_are_followed(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", numbered(6))
    (tmp_path / "link.mp4").symlink_to("a.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    assert len(read_context(tmp_path / "link.mp4", 5)) == 5
    with pytest.raises(MediaError, match=r"loop\.mp4"):
        read_context(tmp_path / "loop.mp4")


@pytest.mark.parametrize("stem", [*STEMS.values(), "n" * 300, "nul\0", "\ud800"])
def test_a_file_that_is_not_there_is_named_on_one_line(tmp_path: Path, stem: str) -> None:
    for act in (read_context, lambda path: read_window(path, 17), read_image):
        with pytest.raises(MediaError) as caught:
            act(tmp_path / (stem + ".mp4"))
        sentence = str(caught.value)
        assert sentence.encode().decode().isprintable()
        assert len(sentence) < 140


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    (tmp_path / "b.png").mkdir()
    (tmp_path / "c.png").write_bytes(b"")
    for name, words in {"a.mp4": "neither", "b.png": "a folder", "c.png": "empty"}.items():
        with pytest.raises(MediaError, match=words):
            read_context(tmp_path / name)


def test_names_are_shown_whole_when_they_can_be(tmp_path: Path) -> None:
    assert shown_name(tmp_path / "Übung 日本語.mp4") == "Übung 日本語.mp4"
    assert shown_name(os.fsdecode(b"cl\xe9ment.mp4")) == "cl\ufffdment.mp4"
    assert printable_name("n" * 200) == "n" * 200
    assert len(shown_name("n" * 200)) == 80


def test_a_name_that_is_too_long_is_refused_before_anything_is_left(tmp_path: Path) -> None:
    for write in (write_video, write_gif, write_strip):
        with pytest.raises(MediaError, match="cannot be written: file name too long"):
            write(tmp_path / ("n" * 300), numbered(2))
    assert not list(tmp_path.iterdir())


def test_two_that_write_one_name_at_once_leave_one_whole_file(tmp_path: Path) -> None:
    shades = [np.full((3, 32, 32, 3), shade, np.uint8) for shade in (20, 200) * 4]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda frames: write_strip(tmp_path / "a.png", frames), shades))
    assert len(np.unique(read_image(tmp_path / "a.png"))) == 1
    assert len(list(tmp_path.iterdir())) == 1


def test_files_have_the_mode_that_umask_leaves(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", numbered(2))
    Image.new("L", (2, 2)).save(tmp_path / "b.png")
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1
