"""The experiments on a model of 4 x 4 tokens a frame, and the command that goes on with them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from nbp_core.cli import evaluate, options
from nbp_core.cli.main import main
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import Size3
from nbp_core.evaluation.figures import Clips
from nbp_core.evaluation.judge import REAL, Judge, Tools, reconstruct_many
from nbp_core.experiments import longer as longer_module
from nbp_core.experiments.attention_study import PARTS, attention
from nbp_core.experiments.experiment import Bench, Experiment, Rows
from nbp_core.experiments.large_blocks import WAYS, by_way
from nbp_core.experiments.longer import CODED_AGAIN, longer
from nbp_core.experiments.registry import (
    EXPERIMENTS,
    by_shape,
    speculative,
    validation_loss,
)
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.media.drift import colour_drift, mean_sharpness
from nbp_core.media.video import write_video
from nbp_core.packed.formats import formats_on
from nbp_core.results.files import COLUMNS, read_result
from tests.support.clips import moving_square, square_clips
from tests.support.models import (
    ACTIONS,
    CODES,
    build_tokenizer,
    build_transformer,
    save_pipeline,
    tokenizer_config,
    transformer_config,
)


@pytest.fixture(scope="module")
def bench() -> Bench:
    config = transformer_config(grid=(5, 4, 4), block_shape=(1, 1, 4))
    pipeline = VideoPipeline(build_transformer(config), build_tokenizer())
    frames, _ = square_clips(2, side=32)
    actions = [ACTIONS[i % 2] for i in range(8)]
    judge = Judge.of(Clips(name=REAL, frames_NTHWC=frames, actions=actions), 3, Tools())
    judge.token_side = 8
    real, _ = reconstruct_many(pipeline.tokenizer, judge.held, "cpu")
    return Bench(
        pipeline=pipeline,
        judge=judge,
        real=real,
        count=3,
        context_frames=0,
        batch_size=3,
        sampling=SamplingConfig(seed=2),
    )


def test_a_block_shape_has_its_loss_speed_and_figures_in_one_row(bench: Bench) -> None:
    (row,) = by_shape(bench, "1x1x4")
    assert set(COLUMNS["blocks"]) < row.keys()
    assert row["steps"] == 4 + 19
    assert row["frames_s"] > 0
    assert not row["shape_was_trained"]
    assert 0 < row["token changes"] <= 1
    (again,) = by_shape(bench, "1x1x4")
    assert {k: v for k, v in again.items() if k != "frames_s"} == {
        k: v for k, v in row.items() if k != "frames_s"
    }


def test_the_loss_is_a_token_and_weighs_every_clip_alike(bench: Bench) -> None:
    tokens, actions = bench.real.tokens_Nthw, bench.real.actions
    assert tokens is not None
    many = np.concatenate([tokens, tokens[:2]])
    losses = [
        validation_loss(bench.pipeline, tokens[i : i + 1], actions[i : i + 1], (1, 1, 4))
        for i in range(3)
    ]
    whole = validation_loss(bench.pipeline, many, [*actions, *actions[:2]], (1, 1, 4))
    assert whole == pytest.approx(np.mean([*losses, *losses[:2]]), rel=1e-4)
    assert whole > np.log(CODES) / 2


@pytest.mark.parametrize("way", WAYS)
def test_every_way_is_measured_over_whole_frames(bench: Bench, way: str) -> None:
    rows = by_way(bench, way)
    assert {row["of"] for row in rows} == {f"blocks of 1x4x4, {way}"}
    assert all(set(COLUMNS["evaluation"]) <= row.keys() for row in rows)
    assert "sampling time per clip" in {row["metric"] for row in rows}


def test_from_first_frames_two_clips_of_each_tell_how_much_clips_differ(bench: Bench) -> None:
    given = replace(bench, context_frames=1)
    drawn = {row["metric"]: row for row in by_way(given, "paper")}
    assert drawn["difference between clips of one start"]["value"] > 0
    assert drawn["token changes"]["clips"] == 2 * given.count
    sure = replace(given, sampling=SamplingConfig(temperature=0))
    same = {row["metric"]: row for row in by_way(sure, "paper")}
    assert same["difference between clips of one start"]["value"] == 0


def test_attention_has_a_row_a_head_and_one_of_an_even_look(bench: Bench) -> None:
    rows = attention(bench, "1x1x4")
    config = bench.pipeline.transformer.config
    assert len(rows) == config.num_layers * config.num_heads + 1
    assert all(set(COLUMNS["attention"]) <= row.keys() for row in rows)
    for row in rows:
        assert sum(row[part] for part in PARTS) == pytest.approx(1, abs=1e-4)


def test_longer_clips_are_told_a_window_at_a_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(longer_module, "LONGEST", 33)
    real, first, second = longer(bench, "1x4x4")
    assert [row["window"] for row in (real, first, second)] == [0, 1, 2]
    assert first["difference to the first window"] == 0 < second["difference to the first window"]
    assert second["to_frame"] == 33
    assert all(set(COLUMNS["longer"]) <= row.keys() for row in (real, first, second))
    coded = longer(bench, CODED_AGAIN)
    assert [row["window"] for row in coded] == [0, 1, 2]
    assert coded[0]["colour drift"] < coded[2]["colour drift"]


def test_a_blurred_clip_is_less_sharp_and_a_tinted_one_has_drifted(bench: Bench) -> None:
    frames = bench.judge.held.frames_NTHWC
    blurred = np.stack([[cv2.blur(frame, (5, 5)) for frame in clip] for clip in frames])
    assert mean_sharpness(blurred) < mean_sharpness(frames)
    dark = (frames // 2).astype(np.uint8)
    tinted = dark + np.array([10, 0, 0], np.uint8)
    moved = colour_drift(tinted, dark.mean(1).round().astype(np.uint8)[:])
    assert moved == pytest.approx(10 / np.sqrt(3), abs=1)


@pytest.mark.parametrize("prefix_len", [0, 1])
def test_a_model_without_actions_has_its_experiments(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, prefix_len: int
) -> None:
    monkeypatch.setattr(longer_module, "LONGEST", 33)
    config = replace(
        bench.pipeline.config, actions=(), prefix_len=prefix_len, num_conditions=prefix_len,
        aimed=False,
    )  # fmt: skip
    silent = replace(bench, pipeline=VideoPipeline(build_transformer(config), build_tokenizer()))
    assert len(longer(silent, "1x4x4")) == 3
    assert speculative(silent, "next token")
    assert speculative(silent, "drafts of 1x1x4")
    assert by_shape(silent, "1x4x4")[0]["loss"] > 0
    assert attention(silent, "1x1x4")


def test_speculative_decoding_tells_how_many_tokens_a_step_makes(bench: Bench) -> None:
    rows = {row["metric"]: row["value"] for row in speculative(bench, "drafts of 1x1x4")}
    assert 0 <= rows["drafted tokens kept"] <= 1
    assert 0.5 < rows["tokens per forward step"] < 4
    alone = {row["metric"]: row["value"] for row in speculative(bench, "next token")}
    assert alone["tokens per forward step"] == 1


def test_drafts_are_compared_with_steps_of_their_own_kind(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipeline's decoder may have compiled steps, which drafts do not use."""
    monkeypatch.setattr(bench.pipeline, "decoder", None)
    metrics = {row["metric"] for row in speculative(bench, "next token")}
    assert metrics == {"sampling time per clip", "tokens per forward step"}


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("speculative", ["--guidance", "2"]),
        ("speculative", ["--method", "shared-noise"]),
        ("speculative", ["--context-frames", "1"]),
        ("speculative", ["--batch-size", "2"]),
        ("attention", ["--temperature", "0.5"]),
        ("attention", ["--top-k", "5"]),
        ("attention", ["--seed", "0"]),
        ("attention", ["--classifier", "folder"]),
        ("large-blocks", ["--method", "shared-noise"]),
        ("longer", ["--memorisation"]),
        ("block-sizes", ["--fvd-side", "64"]),
    ],
)
def test_an_experiment_refuses_options_without_effect(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, option: list[str]
) -> None:
    """The next-token prediction that drafts are compared with would heed guidance."""
    model, out = save_pipeline(tmp_path / "weights"), tmp_path / "speculative.json"
    command = ["experiment", name, "--model", str(model), "--out", str(out)]
    assert main([*command, "--clips", str(tmp_path), "--device", "cpu", *option]) == 2
    said = capsys.readouterr().err
    wanted = "unrecognized arguments: " if name != "block-sizes" else ""
    assert wanted + option[0] in said
    assert said.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("patch", "grid", "sentence"),
    [
        (4, (5, 8, 8), "the model has a grid of 5x8x8 tokens, and real clips have one of 5x16x16"),
        (8, (5, 8, 8), "block shape 1x1x16 does not tile the 5x8x8 grid"),
        (4, (3, 16, 16), "at most 3 latent frames at once, not 5"),
    ],
)
def test_another_grid_is_refused_before_clips_are_read(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    patch: int,
    grid: Size3,
    sentence: str,
) -> None:
    tokenizer = replace(tokenizer_config(), patch=patch)
    monkeypatch.setattr("tests.support.models.tokenizer_config", lambda: tokenizer)
    model = save_pipeline(tmp_path, transformer_config(grid=grid, block_shape=(1, 1, 8)))
    command = ["experiment", "block-sizes", "--model", str(model), "--device", "cpu"]
    command += ["--clips", str(tmp_path / "none"), "--out", str(tmp_path / "sizes.json")]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1


def test_attention_is_measured_in_clips_shorter_than_the_grid(bench: Bench) -> None:
    config = transformer_config(grid=(9, 4, 4), block_shape=(1, 1, 4))
    pipeline = VideoPipeline(build_transformer(config), build_tokenizer())
    assert attention(replace(bench, pipeline=pipeline), "1x1x4")


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for action in ACTIONS[:2]:
        (tmp_path / "clips" / action).mkdir(parents=True)
        for number in range(3):
            clip = moving_square("left", rng, side=128)
            write_video(tmp_path / "clips" / action / f"{number}.mp4", clip)
    return tmp_path / "clips"


@pytest.fixture
def command(clips: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An experiment over the clips that writes sizes.json beside them."""
    monkeypatch.setattr(evaluate, "Lite0Features", lambda device: NoFeatures())
    folder = clips.parent
    options = ["--model", str(save_pipeline(folder / "weights")), "--clips", str(clips)]
    options += ["--split", "train", "--cache", str(folder / "cache"), "--count", "2"]
    return ["experiment", "block-sizes", *options, "--out", str(folder / "sizes.json")]


def test_a_run_goes_on_where_it_ended_and_never_overwrites_another(
    clips: Path,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    ran: list[str] = []

    def rows(bench: Bench, unit: str) -> Rows:
        if unit == "1x1x8" and len(ran) == 1:
            raise KeyboardInterrupt
        ran.append(unit)
        return [{"model": bench.pipeline.name, "block": unit, "loss": 2.0}]

    fake = Experiment(title="Two", kind="blocks", units=["1x1x16", "1x1x8"], rows=rows)
    monkeypatch.setitem(EXPERIMENTS, "block-sizes", fake)
    out = clips.parent / "sizes.json"
    assert main(command) == 130
    assert [row["block"] for row in read_result(out).rows] == ["1x1x16"]
    ran.append("stopped")
    assert main(command) == 0
    assert ran == ["1x1x16", "stopped", "1x1x8"]
    found = read_result(out)
    assert [row["block"] for row in found.rows] == ["1x1x16", "1x1x8"]
    assert {row["of"] for row in found.more["baselines"]} == {
        "real clips",
        "reconstruction of real clips",
    }
    before = out.read_text()
    assert main([*command, "--seed", "1"]) == 2
    assert "with another sampling" in capsys.readouterr().err
    assert out.read_text() == before
    assert json.loads(before)["done"] == "1x1x16; 1x1x8"


@pytest.mark.parametrize(
    ("option", "setting"),
    [("--int8", "weight_format"), ("--memorisation", "memorisation"), ("", "clips")],
)
def test_a_run_does_not_go_on_with_other_weights_clips_or_measures(
    clips: Path,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
    setting: str,
) -> None:
    if option == "--int8" and "int8" not in formats_on("cpu"):
        pytest.skip("this processor has no int8 weights")

    def rows(bench: Bench, unit: str) -> Rows:
        return [{"model": bench.pipeline.name, "block": unit, "loss": 2.0}]

    fake = Experiment(title="One", kind="blocks", units=["1x1x16"], rows=rows, has_baselines=False)
    monkeypatch.setitem(EXPERIMENTS, "block-sizes", fake)
    out = clips.parent / "sizes.json"
    command += ["--device", "cpu"]
    assert main(command) == 0
    before = out.read_text()
    assert main(command) == 0
    if not option:
        clip = moving_square("left", np.random.default_rng(1), side=128)
        write_video(clips / ACTIONS[0] / "more.mp4", clip)
    capsys.readouterr()
    assert main([*command, *filter(None, [option])]) == 2
    assert f"sizes.json exists with another {setting}; move it away" in capsys.readouterr().err
    assert out.read_text() == before


class NoFeatures:
    """A network that says nothing."""

    name = "Frechet distance (nothing)"

    def features(self, frames_NTHWC: np.ndarray) -> np.ndarray:
        return np.arange(2.0 * len(frames_NTHWC)).reshape(-1, 2)


def test_the_default_file_lies_in_results() -> None:
    assert Path("results") == options.RESULTS
    assert all(replace(e).kind in COLUMNS for e in EXPERIMENTS.values())
