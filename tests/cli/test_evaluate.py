"""The verb `evaluate` from folder to file: figures that repeat, a sheet, plain sentences."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nbp_core.cli import evaluate as verb
from nbp_core.cli.main import main
from nbp_core.evaluation.features import Features
from nbp_core.media.files import Frames
from nbp_core.media.pictures import read_image
from nbp_core.media.video import read_comment, write_video
from nbp_core.results.files import read_result
from tests.support.clips import moving_square
from tests.support.models import ACTIONS, save_pipeline, transformer_config


class MeanColour:
    """Two features a clip, in the place of a network's."""

    name = "Frechet distance (Lite0 features)"

    def __init__(self, device: str) -> None:
        self.device = device

    def features(self, frames_NTHWC: Frames) -> Features:
        return np.asarray(frames_NTHWC.mean((1, 2, 3))[:, :2], np.float64)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluate") / "clips"
    rng = np.random.default_rng(0)
    for action, way in zip(ACTIONS, ("left", "right", "up"), strict=True):
        (folder / action).mkdir(parents=True)
        for number in range(3):
            clip = moving_square(way, rng, side=128)
            write_video(folder / action / f"{number}.mp4", clip)
    return folder


@pytest.fixture
def clips(written: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(verb, "Lite0Features", MeanColour)
    return written


def evaluate(clips: Path, *options: str) -> int:
    folder = clips.parent
    common = ["--clips", str(clips), "--split", "train", "--cache", str(folder / "cache")]
    return main(["evaluate", *common, *options])


def test_a_model_is_measured_the_same_twice(clips: Path, tmp_path: Path) -> None:
    model = save_pipeline(tmp_path / "weights")
    options = ["--model", str(model), "--count", "3", "--block", "1x16x16", "--batch-size", "2"]
    options += ["--context-frames", "1"]
    options += ["--memorisation", "--json"]
    for name in ("a", "b"):
        files = ["--out", str(tmp_path / f"{name}.json"), "--sheet", str(tmp_path / f"{name}.png")]
        assert evaluate(clips, *options, *files) == 0
    first, second = (read_result(tmp_path / f"{name}.json") for name in ("a", "b"))
    assert first.rows == second.rows
    assert first.weights.startswith("test-transformer ")
    rows = {(row["metric"], row["of"]): row for row in first.rows}
    groups = {of for _, of in rows}
    assert groups == {"real clips", "reconstruction of real clips", "generated clips"}
    for group in groups:
        assert rows["Frechet distance (Lite0 features)", group]["clips"] == 3
        assert rows["token changes", group]["better"] == "like real"
        assert "training clips" in str(
            rows["distance to the nearest training clip, mean", group]["against"]
        )
    assert float(str(rows["PSNR", "reconstruction of real clips"]["value"])) > 0
    assert np.array_equal(read_image(tmp_path / "a.png"), read_image(tmp_path / "b.png"))
    assert json.loads(read_comment(tmp_path / "a.png") or "")["block"] == "1x16x16"


def test_a_model_without_actions_is_measured_by_what_it_continues(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_pipeline(tmp_path, transformer_config("plain"))
    options = ["--model", str(model), "--count", "2", "--json"]
    assert evaluate(clips, *options, "--context-frames", "5") == 0
    report = json.loads(capsys.readouterr().out)
    assert "generated clips" in {row["of"] for row in report["rows"]}
    monkeypatch.setattr(verb, "real_clips", None)  # nothing is read
    assert evaluate(clips, *options) == 2
    assert (
        capsys.readouterr()
        .err.strip()
        .endswith("can only continue frames: give --context-frames, such as 5")
    )


def test_a_folder_of_clips_is_measured_without_a_model(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(clips, "--generated", str(clips), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    made = [row for row in report["rows"] if row["of"] == "generated clips"]
    assert {row["metric"] for row in made} >= {"flicker at still places"}
    assert report["weights"] == "none: clips of a folder"
    assert "i3d_torchscript.pt" in report["notes"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ([], "give --model"),
        (["--generated", "nowhere"], "there is no folder 'nowhere'"),
        (["--generated", ".", "--count", "1"], "--count must be at least 2"),
        (["--generated", ".", "--context-frames", "-12"], "--context-frames must be at least 0"),
        (["--generated", ".", "--i3d", "none.pt"], "no file 'none.pt'"),
        (["--generated", ".", "--count", "7"], "--count has no effect on the clips of"),
        (["--generated", ".", "--top-p", "0.5"], "--top-p has no effect on the clips of"),
        (["--generated", ".", "--photos", "."], "--photos has no effect without --model"),
        (["--generated", ".", "--fvd-side", "64"], "--fvd-side has no effect without --i3d"),
        (["--generated", ".", "--episodes", "2"], "--episodes has no effect without --arm-keys"),
        (["--generated", ".", "--classifier", "weights/tiny"], "is a transformer"),
        (["--generated", ".", "--out", "nowhere/a.json"], "folder of a.json does not exist"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    clips: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    assert evaluate(clips, *options) == 2
    error = capsys.readouterr().err.strip()
    assert sentence in error
    assert "\n" not in error


def test_too_few_clips_of_a_split_name_it_and_the_other(
    clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(clips, "--generated", str(clips), "--split", "val") == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == (
        "clips has too few validation clips (3): an evaluation needs at least 4; add clips, or "
        "give --split train"
    )


def test_bars_are_of_what_is_done(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(clips, "--generated", str(clips)) == 0
    assert "reconstructing" not in capsys.readouterr().err
    model = save_pipeline(tmp_path / "weights")
    assert evaluate(clips, "--model", str(model), "--count", "2", "--block", "1x16x16") == 0
    said = capsys.readouterr().err
    assert "playing" not in said
    assert "reconstructing" in said
    assert "generating" in said


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--block", "1x3x16"], "1x3x16"),
        (["--context-frames", "3"], "the context must have 1 + 4n frames (1, 5, 9, ...), not 3"),
    ],
)
def test_what_does_not_fit_the_model_is_refused_before_any_work(
    clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    sentence: str,
) -> None:
    model = save_pipeline(tmp_path / "weights")
    assert evaluate(clips, "--model", str(model), *options) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_frames_of_another_size_than_real_ones_are_refused(
    clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = save_pipeline(tmp_path, transformer_config(grid=(5, 8, 8), block_shape=(1, 1, 8)))
    monkeypatch.setattr(verb, "real_clips", None)  # nothing is read
    assert evaluate(clips, "--model", str(model), "--device", "cpu") == 2
    assert "a grid of 5x8x8 tokens, and real clips have one of 5x16x16" in capsys.readouterr().err


def test_without_its_packages_lite0_is_left_out_and_said_so(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(device: str) -> None:
        raise ValueError("Lite0 features need two more packages")

    monkeypatch.setattr(verb, "Lite0Features", missing)
    assert evaluate(clips, "--generated", str(clips)) == 0
    printed = capsys.readouterr().err
    assert "Lite0 features need two more packages" in printed
    assert "Frechet" not in printed
