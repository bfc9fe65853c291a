"""Where a verb writes is tried before it works, and what was made is never lost."""

from __future__ import annotations

import json
import os
import re
import shlex
import tempfile
from pathlib import Path

import pytest

from nbp_core.cli.main import WRITERS, main
from nbp_core.cli.options import report_head
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.media import ffmpeg, video
from nbp_core.media.files import MediaError, try_writing
from nbp_core.media.video import read_context
from tests.support.models import save_pipeline


def never(*args: object, **options: object) -> None:
    raise AssertionError("the work began")


LONG = "n" * 300


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "--block", "1x16x16", "--out", f"{LONG}.mp4"],
        ["compare", "--blocks", "1x1x16", "1x16x16", "--out-dir", LONG],
        ["compare", "--blocks", "1x1x16", "1x16x16", "--out-dir", f"a/{LONG}"],
        ["attention", "--layer", "1", "--out", f"{LONG}.png"],
        ["bench", "--out", f"{LONG}.json"],
        ["evaluate", "--clips", ".", "--out", f"{LONG}.json"],
        ["evaluate", "--clips", ".", "--sheet", f"{LONG}.png"],
    ],
    ids=lambda arguments: f"{arguments[0]}-{arguments[-2]}",
)
def test_a_name_that_cannot_be_written_is_refused_before_the_work(
    arguments: list[str],
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(VideoPipeline, "from_pretrained", never)
    verb, *rest = arguments
    named = ["--folder", str(model.parent)] if verb == "bench" else ["--model", str(model)]
    assert main([verb, *named, *rest]) == 2
    sentence = capsys.readouterr().err.strip()
    assert re.fullmatch(r"[^\n]+", sentence)
    assert "too long" in sentence.lower()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(MediaError, match="permission denied"):
        try_writing(tmp_path / "a.mp4")


def test_a_trial_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("here already")
    try_writing(tmp_path / "a.mp4")
    try_writing(tmp_path / "b.mp4")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["here already"]
    for path in (tmp_path, tmp_path / "nowhere" / "a.mp4", tmp_path / "a.mp4" / "b.mp4"):
        with pytest.raises(MediaError, match="cannot be written"):
            try_writing(path)


def test_a_clip_that_cannot_be_written_at_last_is_kept(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out" / "clip.gif"
    out.parent.mkdir()

    def vanish(path: Path, *args: object, **options: object) -> None:
        if out.parent.is_dir():
            out.parent.rmdir()
        video.write_gif(path, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setitem(WRITERS, ".gif", vanish)
    arguments = ["generate", "--model", str(model), "--out", str(out), "--json"]
    arguments += ["--action", "door-open", "--block", "1x16x16"]
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    kept = re.fullmatch(
        r"clip\.gif cannot be written.*; the result was saved in (.*) instead\.\n", said.err
    )
    assert kept is not None
    path = Path(kept[1])
    assert json.loads(video.read_comment(path) or "")["software"] == "NBP Studio"
    assert len(read_context(path)) > 1
    path.unlink()
    path.parent.rmdir()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_is_the_reason_and_leaves_nothing_behind(
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    url_of = ffmpeg.file_url
    monkeypatch.setattr(
        ffmpeg, "file_url",
        lambda path: b"file:/dev/full" if path.suffix == ".part" else url_of(path),
    )  # fmt: skip
    arguments = ["generate", "--model", str(model), "--out", str(tmp_path / "clip.mp4")]
    arguments += ["--action", "door-open", "--block", "1x16x16"]
    assert main(arguments) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == "clip.mp4 cannot be written: no space left on device."
    assert not [path for path in tmp_path.rglob("*") if path.name != "temporary"]


def test_the_command_of_a_report_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["experiment", "endless", "--settings", "no anchor", "--model", "my own"]
    monkeypatch.setattr("sys.argv", ["nbp_core", *arguments])
    command = report_head("t", "longer", "cpu")["command"]
    assert shlex.split(command) == ["python", "-m", "nbp_core", *arguments]
