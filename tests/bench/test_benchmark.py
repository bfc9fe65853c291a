import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch

from nbp_core.bench.floor import (
    Floor,
    Machine,
    StepFigures,
    floor_of,
    measure_machine,
    step_bytes,
    step_operations,
    time_block_shape,
)
from nbp_core.bench.tables import Timed
from nbp_core.cli import bench
from nbp_core.cli.main import main
from nbp_core.config.shapes import Size3
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.media.video import write_video
from nbp_core.packed.model import pack
from nbp_core.processor import sets_here
from tests.support.models import ACTIONS, build_transformer, save_pipeline, transformer_config

MACHINE = Machine("cpu", "test", 1, read_gb_s=10.0, matmul_tflop_s=0.1, dtype="float32")


def test_a_step_reads_every_weight_but_the_tables() -> None:
    model = pack(build_transformer(transformer_config("plain", modern=False)), "float32")
    width, layers, codes = 32, 2, 60
    inner = layers * (12 * width**2 + 13 * width)
    assert step_bytes(model, 0) == 4 * (inner + codes * width)
    assert step_bytes(model, 100) - step_bytes(model, 0) == 4 * 2 * layers * width * 100
    assert step_operations(model, 1, 0) == 2 * (layers * 12 * width**2 + codes * width)
    assert step_operations(model, 16, 100) == 16 * step_operations(model, 1, 100)


def step(num_bytes: int, num_operations: int, weight_format: str = "float32") -> StepFigures:
    return StepFigures(
        model="m", weights="w", weight_format=weight_format, block="1x1x1", protocol="k600",
        num_steps=1, prefill_ms=1.0, step_ms=1.0, num_bytes=num_bytes,
        num_operations=num_operations, timed_steps=1, block_len=1,
    )  # fmt: skip


def test_the_floor_is_the_larger_of_reading_and_multiplying() -> None:
    assert floor_of(step(10**9, 10), MACHINE) == Floor(100.0, "memory")
    assert floor_of(step(10, 10**9), MACHINE) == Floor(10.0, "arithmetic")
    whole = replace(MACHINE, int8_tflop_s=0.2)
    assert floor_of(step(10, 10**9, "int8"), whole) == Floor(5.0, "arithmetic")


def test_the_floor_of_a_small_model_is_that_of_the_cache_it_stays_in() -> None:
    size = 10**6
    cached = ((size // 8, 90.0), (size // 2, 40.0), (2 * size, 20.0))
    found = floor_of(step(size, 1), replace(MACHINE, cached_gb_s=cached))
    assert found.floor_ms == pytest.approx(size / 40e6)


def test_a_busy_measurement_does_not_raise_the_floor() -> None:
    """Another program may take a core or the memory during one of two measurements."""
    quiet = replace(MACHINE, int8_tflop_s=0.3, cached_gb_s=((2**20, 40.0),))
    busy = replace(
        MACHINE, read_gb_s=4.0, matmul_tflop_s=0.2, int8_tflop_s=0.1, cached_gb_s=((2**20, 50.0),)
    )
    best = replace(quiet, matmul_tflop_s=0.2, cached_gb_s=((2**20, 50.0),))
    assert quiet.best(busy) == busy.best(quiet) == best


@pytest.mark.parametrize(
    ("shape", "protocol", "steps"),
    [
        ((1, 1, 1), "k600", 768),
        ((1, 1, 16), "k600", 48),
        ((1, 1, 16), "ucf", 95),
        ((1, 16, 16), "k600", 3),
        ((1, 16, 16), "ucf", 260),
        ((1, 4, 4), "k600", 48),
        ((2, 1, 8), "ucf", 95),
        ((2, 2, 2), "ucf", 167),
    ],
)
def test_every_block_shape_is_timed(shape: Size3, protocol: str, steps: int) -> None:
    model = pack(build_transformer(transformer_config()), "float32")
    figures = time_block_shape(model, shape, protocol, "none", max_steps=3)
    assert figures.num_steps == steps
    assert 1 <= figures.timed_steps <= 3
    assert figures.step_ms > 0
    assert figures.num_bytes > step_bytes(model, 0)
    assert figures.num_operations > step_operations(model, figures.block_len, 0)
    assert figures.total_s > steps * figures.step_ms / 2e3


@pytest.mark.slow
def test_the_verb_writes_what_it_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = save_pipeline(tmp_path).parent
    out = tmp_path / "bench.json"
    options = ["--presets", "--blocks", "1x16x16", "--folder", str(folder), "--out", str(out)]
    assert main(["bench", *options, "--json"]) == 0
    report = json.loads(out.read_text())
    assert json.loads(capsys.readouterr().out) == report
    assert {row["protocol"] for row in report["rows"]} == {"k600", "ucf"}
    assert report["machine"]["read_gb_s"] > 0
    for row in report["rows"]:
        assert row["ratio"] == pytest.approx(row["step_ms"] / row["floor_ms"])
    assert report["clips"][0]["frames_s"] > 0


@pytest.mark.slow
def test_models_are_timed_with_the_chosen_instructions_and_threads(tmp_path: Path) -> None:
    """Each runs in a process of its own, which once took the best instructions and all threads."""
    folder = save_pipeline(tmp_path).parent
    out = tmp_path / "bench.json"
    options = ["--presets", "--blocks", "1x16x16", "--folder", str(folder), "--out", str(out)]
    least = sets_here()[-1]
    program = [sys.executable, "-m", "nbp_core", "--instructions", least.name, "--threads", "1"]
    subprocess.run([*program, "bench", *options, "--device", "cpu"], check=True, timeout=300)
    report = json.loads(out.read_text())
    assert report["machine"]["threads"] == 1
    assert least.words in report["machine"]["name"]


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The verb in this process, on a machine that is known already."""
    monkeypatch.setattr(bench, "_apart", lambda work, *arguments: work(*arguments))
    monkeypatch.setattr(bench, "_machine", lambda device: MACHINE)
    monkeypatch.setattr(bench, "TIMED_CLIPS", 1)


def report_of(tmp_path: Path, *blocks: str) -> Any:
    """The report of one model in these blocks."""
    out = tmp_path / "bench.json"
    options = ["--presets", "--folder", str(tmp_path), "--out", str(out), "--steps", "1"]
    options += ["--device", "cpu", "--clips", str(tmp_path), "--blocks", *blocks]
    assert main(["bench", *options]) == 0
    return json.loads(out.read_text())


def clips_and_steps(report: Any) -> tuple[list[str], set[tuple[str, str]]]:
    """(the blocks of the clips, the protocols and blocks of the steps)."""
    clips = [clip["block"] for clip in report["clips"]]
    return clips, {(row["protocol"], row["block"]) for row in report["rows"]}


@pytest.mark.usefixtures("unhurried")
def test_without_a_model_there_is_nothing_to_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--presets", "--folder", str(tmp_path), "--out", str(tmp_path / "bench.json")]
    assert main(["bench", *options, "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert said == f"{tmp_path} has no transformer, and --presets names no size to time\n"
    assert not (tmp_path / "bench.json").exists()


@pytest.mark.usefixtures("unhurried")
def test_a_model_without_actions_is_timed_from_five_frames(tmp_path: Path) -> None:
    save_pipeline(tmp_path, transformer_config("plain", (1, 16, 16), modern=False))
    report = report_of(tmp_path, "1x1x16", "1x16x16")
    assert clips_and_steps(report) == (["1x16x16"], {("k600", "1x16x16")})
    (clip,) = report["clips"]
    assert clip["frames_s"] == pytest.approx(12 / clip["seconds"])


@pytest.mark.usefixtures("unhurried")
def test_a_model_for_one_block_shape_is_timed_in_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = transformer_config("hybrid", (1, 16, 16), modern=False)
    config = replace(config, actions=ACTIONS, prefix_len=1, max_len=2000)
    save_pipeline(tmp_path, config)
    report = report_of(tmp_path, "1x1x16", "1x16x16")
    steps = {("k600", "1x16x16"), ("ucf", "1x16x16")}
    assert clips_and_steps(report) == (["1x16x16"], steps)
    assert "model 'tiny' is not timed in blocks of 1x1x16\n" in capsys.readouterr().err
    options = ["--presets", "--folder", str(tmp_path), "--blocks", "1x1x16"]
    assert main(["bench", *options]) == 2
    assert capsys.readouterr().err == "no model can be timed in blocks of 1x1x16\n"


@pytest.mark.usefixtures("unhurried")
def test_losses_are_measured_on_the_clips_of_a_folder_or_said_to_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "formats_on", lambda device: ("float32", "int8"))
    save_pipeline(tmp_path)
    (tmp_path / "wave").mkdir()
    clip = np.zeros((17, 128, 128, 3), np.uint8)
    write_video(tmp_path / "wave" / "a.mp4", clip)
    assert report_of(tmp_path, "1x16x16")["losses"] == []
    sentence = f"{tmp_path} itself has no MP4 file of 17 frames (--clips)\n"
    assert capsys.readouterr().err.count(sentence) == 1
    write_video(tmp_path / "a.mp4", clip)
    (loss,) = report_of(tmp_path, "1x16x16")["losses"]
    assert (loss["weight_format"], loss["clips"]) == ("int8", 1)
    assert sentence not in capsys.readouterr().err


@pytest.mark.usefixtures("unhurried")
def test_blocks_over_two_latent_frames_are_timed_where_a_clip_can_begin(tmp_path: Path) -> None:
    """After two known latent frames, no such block begins."""
    save_pipeline(tmp_path)
    assert clips_and_steps(report_of(tmp_path, "2x8x16")) == (["2x8x16"], {("ucf", "2x8x16")})


@pytest.mark.usefixtures("unhurried")
def test_clips_are_timed_in_the_format_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pipeline(tmp_path)
    asked: list[bool] = []
    load = VideoPipeline.from_pretrained

    def noted(folder: Path, device: str, int8: bool, int4: bool) -> VideoPipeline:
        asked.append(int8)
        return load(folder, device)

    monkeypatch.setattr(bench, "_time_model", lambda *_: Timed([step(10, 10, "int8")], 1.0, 1))
    monkeypatch.setattr(bench, "choose_format", lambda *_: "int8")
    monkeypatch.setattr(VideoPipeline, "from_pretrained", noted)
    options = ["--int8", "--presets", "--folder", str(tmp_path), "--blocks", "1x16x16"]
    options += ["--clips", str(tmp_path)]
    out = tmp_path / "bench.json"
    assert main(["bench", *options, "--device", "cpu", "--out", str(out)]) == 0
    assert asked == [True]
    assert [clip["weight_format"] for clip in json.loads(out.read_text())["clips"]] == ["int8"]


@pytest.mark.usefixtures("unhurried")
def test_a_fault_keeps_the_figures_until_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*_: object) -> None:
        raise ValueError("the clips cannot be timed")

    save_pipeline(tmp_path)
    monkeypatch.setattr(bench, "_time_clips", break_down)
    out = tmp_path / "bench.json"
    options = ["--presets", "--folder", str(tmp_path), "--out", str(out), "--steps", "1"]
    assert main(["bench", *options, "--device", "cpu", "--blocks", "1x16x16"]) == 2
    assert json.loads(out.read_text())["rows"]


def test_peak_memory_is_known_without_the_module_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no such module."""
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(peak_wset=123))
    monkeypatch.setattr(bench, "resource", None)
    monkeypatch.setattr(psutil, "Process", lambda: process)
    assert bench._peak_resident() == 123


def test_the_machine_is_measured() -> None:
    machine = measure_machine(torch.device("cpu"), torch.float32, "this one")
    assert machine.read_gb_s > 0.1
    assert machine.matmul_tflop_s > 0.001
    assert all(size > 0 and rate > 0.1 for size, rate in machine.cached_gb_s)
