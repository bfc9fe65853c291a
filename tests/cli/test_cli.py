import argparse
import errno
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nbp_core.cli.main import build_parser, main
from nbp_core.media.video import read_comment, read_video, write_video
from nbp_core.packed.formats import formats_on
from tests.support.broken_models import BROKEN, add_broken
from tests.support.models import save_pipeline


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("models"))


@pytest.fixture(autouse=True)
def small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `doctor` times is far larger than a cache, which takes seconds to pack and to read."""
    monkeypatch.setattr("nbp_core.bench.gains.OUTPUTS", 512)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (90, 160, 3), dtype=np.uint8)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def generate(model: Path, out: Path, *options: str) -> int:
    return main(["generate", "--model", str(model), "--out", str(out), "--json", *options])


def test_an_action_by_rows(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.mp4"
    assert generate(model, out, "--action", "door-open", "--block", "1x1x16", "--seed", "0") == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {"out", "steps", "timings", "manifest"}
    assert report["steps"] == 95
    assert len(report["timings"]["per_step_s"]) == 95
    frames, fps = read_video(out)
    assert frames.shape == (17, 512, 512, 3)
    assert fps == 8
    assert json.loads(read_comment(out) or "") == report["manifest"]


def test_same_seed_same_file_other_seed_another(model: Path, tmp_path: Path) -> None:
    files = []
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        out = tmp_path / f"{name}.mp4"
        options = ("--action", "door-open", "--block", "1x16x16", "--seed", seed)
        assert generate(model, out, *options) == 0
        files.append(out)
    assert files[0].read_bytes() == files[1].read_bytes()
    first, other = read_video(files[0])[0], read_video(files[2])[0]
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(("block", "steps"), [("1x1x16", 64), ("1x16x16", 4)])
def test_a_first_frame(
    model: Path,
    tmp_path: Path,
    picture: Path,
    capsys: pytest.CaptureFixture[str],
    block: str,
    steps: int,
) -> None:
    out = tmp_path / "a.gif"
    assert generate(model, out, "--first-frame", str(picture), "--block", block) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == steps
    assert out.read_bytes().startswith(b"GIF89a")


def write_zero_bytes(folder: Path) -> list[str]:
    (folder / "empty.mp4").write_bytes(b"")
    return ["--first-frame", str(folder / "empty.mp4")]


def write_text_as_picture(folder: Path) -> list[str]:
    (folder / "text.png").write_text("hello")
    return ["--first-frame", str(folder / "text.png")]


def write_two_frames(folder: Path) -> list[str]:
    write_video(folder / "two.mp4", np.zeros((2, 64, 64, 3), np.uint8))
    return ["--context", str(folder / "two.mp4")]


def write_giant(folder: Path) -> list[str]:
    Image.new("1", (20_000, 20_000)).save(folder / "giant.png")
    return ["--first-frame", str(folder / "giant.png")]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (lambda _: ["--first-frame", "nowhere.png"], "nowhere.png"),
        (write_text_as_picture, "text.png"),
        (write_zero_bytes, "empty.mp4"),
        (write_giant, "giant.png"),
        (write_two_frames, "two.mp4 has 2 frames"),
        (lambda _: ["--action", "dor-open"], "nearest are door-open"),
        (lambda _: ["--block", "1x3x16"], "1x1x16"),
        (lambda _: ["--block", "row"], "three numbers"),
        (lambda _: ["--top-p", "1.5"], "top_p must be"),
        (lambda _: ["--frames", "18"], "1 + 4n"),
        (lambda _: ["--seed", "x"], "--seed"),
        (lambda _: ["--block", "1x1x\u00b2"], "three numbers"),
        (lambda _: ["--context", "assets/life.jpg"], "life.jpg has 1 frame, too few"),
        (lambda _: ["--context-frames", "5"], "--context-frames needs --context"),
        (lambda _: ["--crop", "0.2"], "--crop needs --first-frame or --context"),
        (lambda _: ["--first-frame", "assets/life.jpg", "--crop", "2"], "from 0 to 1, not 2"),
        (lambda _: ["--cosmos", "nowhere"], "has another tokenizer: leave --cosmos out"),
        (lambda _: ["--model", "nowhere"], "no model folder 'nowhere'"),
        (lambda _: ["--out", "a.avi"], ".mp4 or .gif"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: object, sentence: str
) -> None:
    out = tmp_path / "out" / "a.mp4"
    out.parent.mkdir()
    assert callable(options)
    assert generate(model, out, *options(tmp_path)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert sentence in captured.err
    assert captured.err.count("\n") == 1
    assert "Traceback" not in captured.err
    assert list(out.parent.iterdir()) == []


def test_models_and_doctor(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(model.parent)
    assert main(["models", "--folder", folder, "--json"]) == 0
    models = json.loads(capsys.readouterr().out)["models"]
    assert [m["name"] for m in models] == ["nano", "tiny"]
    assert main(["doctor", folder, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["packages"]["torch"].startswith("2.13.0")
    assert [gain["weight_format"] for gain in report["gains"]] == list(formats_on("cpu")[1:])
    assert all(gain["token"] > 0 and gain["row"] > 0 for gain in report["gains"])
    assert [test["name"] for test in report["tests"]] == ["nano", "tiny"]
    for test in report["tests"]:
        assert test["parameters"] == test["expected_parameters"] > 0
        assert test["step_s"] > 0
        assert len(test["sha256"]) == 64
    clip = tmp_path / "clip.mp4"
    assert main(["doctor", str(model), "--clip", str(clip), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tests"][0]["clip"] == str(clip)
    assert len(read_video(clip)[0]) == 17
    (model.parent / "nano" / "model.safetensors").rename(model.parent / "away")
    try:
        assert main(["doctor", folder]) == 2
        assert f"threads: {report['threads']}\n" in capsys.readouterr().err
    finally:
        (model.parent / "away").rename(model.parent / "nano" / "model.safetensors")


def test_doctor_counts_a_model_without_its_tokenizer_as_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_pipeline(tmp_path / "models")
    (model.parent / "nano").rename(tmp_path / "away")
    assert main(["doctor", str(model.parent), "--json"]) == 2
    report = json.loads(capsys.readouterr().out)
    assert report["tests"] == []
    assert "which is missing: copy that folder beside the model's" in report["faults"][0]


def test_broken_models_spare_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = save_pipeline(tmp_path)
    add_broken(tmp_path, folder / "model.safetensors")
    assert main(["models", "--folder", str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [model["name"] for model in report["models"]] == ["nano", "tiny"]
    assert len(report["faults"]) == len(BROKEN)
    assert main(["models", "--folder", str(tmp_path)]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 + len(BROKEN)
    assert main(["doctor", str(tmp_path), "--json"]) == 2
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert [test["name"] for test in report["tests"]] == ["nano", "tiny"]
    assert len(report["faults"]) == len(BROKEN)
    assert captured.err.count("\n") == 1


def test_the_module_runs() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "nbp_core", "--help"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    for verb in (
        "generate",
        "compare",
        "models",
        "doctor",
        "convert",
        "data",
        "train-tokenizer",
        "train-transformer",
    ):
        assert verb in result.stdout


def options_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.Action]]:
    """(verb, option) of a parser and of its verbs, which stand in for their own options."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                yield from options_of(inner)
        else:
            yield parser.prog, action


def test_every_option_says_what_it_is() -> None:
    found = list(options_of(build_parser()))
    assert len(found) > 100
    assert [f"{verb}: {action.dest}" for verb, action in found if not action.help] == []
    assert [verb for verb, action in found if "%" in (action.help or "").replace("%%", "")] == []


def test_every_option_with_a_default_names_it() -> None:
    silent = [
        f"{verb}: {action.dest}"
        for verb, action in options_of(build_parser())
        if action.default not in (None, (), argparse.SUPPRESS)
        and action.default is not False
        and "default" not in (action.help or "")
    ]
    assert silent == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"
        ),
        type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate ..."),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_too_little_memory_is_one_sentence(
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr("nbp_core.cli.options.VideoPipeline.from_pretrained", fail)
    assert generate(model, tmp_path / "a.mp4", "--action", "door-open") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("There is not enough memory for this")


def test_options_without_effect_are_refused(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = tmp_path / "clip.mp4", tmp_path / "map.png"
    write_video(clip, np.zeros((17, 64, 64, 3), np.uint8))
    options = ["--model", str(model), "--context", str(clip), "--out", str(out), "--seed", "1"]
    assert main(["attention", *options]) == 2
    assert "leave it out with --context" in capsys.readouterr().err
    assert main(["doctor", str(model.parent), "--clip", str(tmp_path / "made.mp4")]) == 2
    assert "--clip needs the folder of one transformer" in capsys.readouterr().err
    common = ["--clips", str(tmp_path), "--run", str(tmp_path / "run"), "--steps", "1"]
    assert main(["train-tokenizer", *common, "--photo-clips", "5"]) == 2
    assert "--photo-clips has no effect without --photos" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"clip.mp4"}


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("data metaworld out --clips 0", "--clips must be at least 1, not 0"),
        ("data arm-keys out --shards 0", "--shards must be at least 1, not 0"),
        ("data arm-keys out --seed -1", "--seed must be at least 0, not -1"),
        ("bench --presets --device cpu --steps 0", "--steps must be at least 1, not 0"),
        ("attention --model weights/nano --out map.png --head \u00b2", "the head must be a number"),
        ("play --model weights/nano --keys k --out a.mp4 --record ./a.mp4", "name one file: a.mp4"),
    ],
)
def test_wrong_values_of_other_verbs_are_one_sentence(
    capsys: pytest.CaptureFixture[str], command: str, sentence: str
) -> None:
    assert main(command.split()) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_doctor_looks_for_the_folder_before_it_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("nbp_core.cli.doctor.measure_gains", None)
    assert main(["doctor", str(tmp_path / "none")]) == 2
    assert "there is no folder 'none' with models" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-3"])
def test_a_context_has_at_least_one_frame(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], count: str
) -> None:
    write_video(tmp_path / "clip.mp4", np.zeros((9, 64, 64, 3), np.uint8))
    options = ("--context", str(tmp_path / "clip.mp4"), "--context-frames", count)
    assert generate(model, tmp_path / "a.mp4", *options) == 2
    assert capsys.readouterr().err == f"--context-frames must be at least 1, not {count}\n"


def test_the_square_of_the_start_can_be_moved(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on the page, so that its settings repeat a clip."""
    wide = np.random.default_rng(0).integers(0, 255, (128, 384, 3), np.uint8)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    Image.fromarray(wide[:, :128]).save(tmp_path / "left.png")
    clips, manifests = [], []
    for name, crop in (("wide", ["--crop", "0"]), ("left", []), ("wide", [])):
        options = ("--first-frame", str(tmp_path / f"{name}.png"), *crop)
        assert generate(model, tmp_path / "a.mp4", *options) == 0
        manifests.append(json.loads(capsys.readouterr().out)["manifest"])
        clips.append(read_video(tmp_path / "a.mp4")[0])
    moved, left, middle = clips
    assert np.array_equal(moved, left)
    assert not np.array_equal(moved, middle)
    assert manifests[0]["context"].pop("crop") == 0
    assert manifests[0] == manifests[1]
