"""Models trained to be compared: what an arm is, what is measured of it, and the command."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nbp_core import BlockTransformer
from nbp_core.blocks.grid import tiles
from nbp_core.checkpoint import save_model
from nbp_core.cli.main import main
from nbp_core.config.shapes import Size3
from nbp_core.config.weight_files import weights_sha256
from nbp_core.data.tokens import TokenSet
from nbp_core.evaluation.held_out import frame_losses
from nbp_core.experiments import arms
from nbp_core.experiments.arms import Arm, Scale
from nbp_core.experiments.comparisons import COMPARISONS, Comparison, Unit
from nbp_core.results.files import read_result
from nbp_core.train.alone import alone
from nbp_core.train.transformer.run import train_transformer
from nbp_core.transformer.conditions import Conditions
from tests.support.models import (
    ACTIONS,
    CODES,
    build_tokenizer,
    build_transformer,
    transformer_config,
)

GRID = (5, 4, 4)
SCALE = "-8x2-layers1-width32-seed0"
"""What the folders of the command's models end with."""
ROW: Size3 = (1, 1, 4)


def token_set(count: int, seed: int) -> TokenSet:
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, CODES // 6, (count, *GRID)).astype(np.uint16)
    return TokenSet(tokens, [ACTIONS[i % 3] for i in range(count)], ["stock"] * count)


@pytest.mark.parametrize("shape", [(1, 1, 1), ROW, (1, 4, 4), (2, 1, 2)])
def test_a_token_costs_in_its_own_frame_and_depends_on_no_later_block(shape: Size3) -> None:
    model = build_transformer(transformer_config(grid=GRID))
    conditions, clips = Conditions(model.config), token_set(5, 0)
    tokens = clips.tokens_Nthw
    losses = frame_losses(model, conditions, tokens, clips.actions, shape)
    assert losses.shape == (5, 5)
    changed = tokens.copy()
    changed[:, 3:] = (changed[:, 3:] + 1) % CODES
    others = frame_losses(model, conditions, changed, clips.actions, shape)
    assert np.allclose(losses[:, :3], others[:, :3], atol=1e-4)
    assert not np.isclose(losses[:, 3:], others[:, 3:], atol=1e-4).any()


def test_every_comparison_can_be_made_at_equal_tokens() -> None:
    of_name: dict[str, Arm] = {}
    for comparison in COMPARISONS.values():
        for number, unit in enumerate(comparison.units):
            arm = unit.arm
            assert of_name.setdefault(arm.name, arm) == arm, "one name is one model"
            assert arm.share + (arm.after.share if arm.after else 0) == 1
            assert unit.shape in (arm.shapes or (arm.shape,))
            assert tiles((5, 16, 16), unit.shape)
            assert unit.against is None or unit.against in comparison.units[:number]
    assert all(comparison.units[0].against is None for comparison in COMPARISONS.values())


HALF = Arm(name="half", layout="elastic", shape=(1, 1, 1), share=0.5)
ALONE = Unit(arm=Arm(name="alone", layout="elastic", shape=ROW), shape=ROW)
GOES_ON = Arm(name="goes-on", layout="elastic", shape=ROW, share=0.5, after=HALF)
PAPERS = Unit(arm=Arm(name="papers", shape=ROW), shape=ROW)
SMALL = Comparison(
    title="Small", units=[ALONE, Unit(arm=GOES_ON, shape=ROW, against=ALONE), PAPERS]
)


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setitem(COMPARISONS, "pretrained", SMALL)
    tokenizer = build_tokenizer()
    save_model(tmp_path / "nano", "tokenizer", tokenizer.config, tokenizer.state_dict())
    for split, count in (("train", 12), ("val", 6)):
        clips = token_set(count, seed=count)
        clips.save(tmp_path / "tokens" / split, weights_sha256(tmp_path / "nano"))
    return [
        "experiment", "pretrained", "--tokens", str(tmp_path / "tokens"),
        "--tokenizer", str(tmp_path / "nano"), "--run", str(tmp_path / "run"),
        "--layers", "1", "--width", "32", "--steps", "8", "--validation-clips", "4",
        "--out", str(tmp_path / "pretrained.json"),
    ]  # fmt: skip


def test_arms_are_trained_once_and_seeds_are_added(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []

    def counting(config, recipe, settings, folder, *more, **options):  # type: ignore[no-untyped-def]
        trained.append(folder.name)
        return train_transformer(config, recipe, settings, folder, *more, **options)

    monkeypatch.setattr(arms, "train_transformer", counting)
    out = tmp_path / "pretrained.json"
    assert main(command) == 0
    assert trained == [f"{name}{SCALE}" for name in ("alone", "half", "goes-on", "papers")]
    first = read_result(out)
    alone, goes_on, papers = first.rows
    assert {(row["steps"], row["clips"]) for row in first.rows} == {(8, 16)}
    assert goes_on["against"] == alone["arm"] == "alone, 1x1x4"
    assert goes_on["difference"] == pytest.approx(
        float(str(goes_on["loss_later"])) - float(str(alone["loss_later"]))
    )
    assert "difference" not in papers
    assert all(float(str(row["frames_s"])) > 0 for row in first.rows)
    curves = first.more["curves"]
    assert [row["step"] for row in curves if row["arm"] == goes_on["arm"]] == [6, 8]
    assert [row["step"] for row in curves if row["arm"] == alone["arm"]] == [2, 4, 6, 8]

    monkeypatch.setattr("sys.argv", ["nbp_core", *command, "--seeds", "2"])
    assert main([*command, "--seeds", "2"]) == 0
    assert len(trained) == 8
    assert read_result(out).command.endswith("--seeds 2")
    assert read_result(out).rows[:3] == first.rows
    assert [row["seed"] for row in read_result(out).rows] == [0, 0, 0, 1, 1, 1]
    out.unlink()
    assert main(command) == 0
    assert len(trained) == 8, "all models were there"
    again = read_result(out).rows
    assert [row["loss"] for row in again] == [row["loss"] for row in first.rows]
    goes_on_from = json.loads((tmp_path / "run" / f"goes-on{SCALE}" / "run.json").read_text())
    assert goes_on_from["start_from"] == "half"


@pytest.mark.parametrize(
    "option",
    [["--int8"], ["--int4"], ["--cosmos", "folder"], ["--context-frames", "1"], ["--count", "5"],
     ["--i3d", "file"], ["--memorisation"]],
)  # fmt: skip
def test_options_without_effect_are_refused(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], option: list[str]
) -> None:
    assert main([*command, *option]) == 2
    said = capsys.readouterr().err
    assert option[0] in said
    assert said.count("\n") == 1
    assert not (tmp_path / "pretrained.json").exists()


def test_blocks_that_do_not_tile_the_tokens_are_refused_before_any_training(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wide = Unit(arm=replace(ALONE.arm, name="wide", shape=(1, 1, 32)), shape=(1, 1, 32))
    monkeypatch.setitem(COMPARISONS, "pretrained", replace(SMALL, units=[ALONE, wide]))
    assert main(command) == 2
    assert "block shape 1x1x32 does not tile the" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_model_that_cannot_be_built_is_refused_before_any_training(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    large = Unit(arm=replace(PAPERS.arm, name="large", size="L"), shape=ROW)
    monkeypatch.setitem(COMPARISONS, "pretrained", replace(SMALL, units=[PAPERS, large]))
    assert main([*command, "--width", "90"]) == 2
    assert capsys.readouterr().err == "width 135 is not a multiple of 4 heads\n"
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such lock")
def test_two_experiments_at_once_do_not_train_one_model(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"alone{SCALE}"
    with alone(tmp_path / "run" / name):
        assert main(command) == 2
    assert f"another process trains in run folder '{name}'" in capsys.readouterr().err
    assert not list((tmp_path / "run" / name).iterdir())


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_losses_that_were_torn_are_measured_again(
    command: list[str], tmp_path: Path, share: float
) -> None:
    assert main(command) == 0
    out = tmp_path / "pretrained.json"
    rows = [row["loss"] for row in read_result(out).rows]
    out.unlink()
    for path in (tmp_path / "run").rglob("losses-*.npy"):
        data = path.read_bytes()
        path.write_bytes(data[: int(share * len(data))])
    assert main(command) == 0
    assert [row["loss"] for row in read_result(out).rows] == rows


def test_another_scale_is_refused_and_missing_tokens_are_said(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 0
    before = (tmp_path / "pretrained.json").read_text()
    assert main([*command, "--width", "64"]) == 2
    assert "with another scale" in capsys.readouterr().err
    assert main([*command, "--tokens", str(tmp_path / "run")]) == 2
    assert "does not hold train/ and val/" in capsys.readouterr().err
    assert main([*command, "--steps", "1"]) == 2
    assert (tmp_path / "pretrained.json").read_text() == before


def test_other_settings_have_folders_of_their_own(command: list[str], tmp_path: Path) -> None:
    assert main(command) == 0
    others = ("--width", "64", "--lr", "0.004", "--muon-lr", "0.01")
    assert main([*command, *others, "--out", str(tmp_path / "b.json")]) == 0
    assert {folder.name for folder in (tmp_path / "run").glob("alone-*")} == {
        f"alone{SCALE}",
        "alone-8x2-layers1-width64-lr0.004-muonlr0.01-seed0",
    }
    usual = arms.arm_folder(tmp_path, ALONE.arm, Scale(), 0)
    assert usual.name == "alone-600x2-seed0"


def test_a_folder_with_other_settings_is_refused_without_an_option_that_is_none(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command) == 0
    (tmp_path / "pretrained.json").unlink()
    settings = tmp_path / "run" / f"alone{SCALE}" / "run.json"
    settings.write_text(settings.read_text().replace('"mlp_ratio": 4.0', '"mlp_ratio": 2.0'))
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "holds a run with another model.mlp_ratio: use another run folder\n" in said


@pytest.mark.parametrize("split", ["train", "val"])
def test_an_arm_of_other_tokens_is_not_taken_up(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    assert main(command) == 0
    token_set(12, seed=5).save(tmp_path / "tokens" / split, weights_sha256(tmp_path / "nano"))
    assert main([*command, "--out", str(tmp_path / "b.json")]) == 2
    said = capsys.readouterr().err
    assert f"run folder 'alone{SCALE}' was trained on other {split} tokens" in said
    assert not (tmp_path / "b.json").exists()


def test_a_continued_model_begins_with_the_weights_it_goes_on_from(
    command: list[str], tmp_path: Path
) -> None:
    assert main(command) == 0
    run = tmp_path / "run"
    half, goes_on, alone = (
        BlockTransformer.from_pretrained(run / f"{name}{SCALE}" / "model")
        for name in ("half", "goes-on", "alone")
    )

    def distance(one: BlockTransformer, other: BlockTransformer) -> float:
        return float((one.tok_emb.weight - other.tok_emb.weight).norm())

    assert distance(goes_on, half) < distance(alone, half)


def test_sizes_grow_from_one_scale() -> None:
    scale = Scale(layers=2, width=128)
    assert [scale.sizes(size) for size in "SML"] == [(2, 64), (2, 128), (3, 192)]
