"""Random keys for a long time: a row per window, the same twice, settings that differ."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nbp_core.checkpoint import save_model
from nbp_core.cli.main import main
from nbp_core.config.sampling import SamplingConfig
from nbp_core.data.key_frames import key_reader_config
from nbp_core.evaluation.classifier import ActionClassifier
from nbp_core.evaluation.features import Features
from nbp_core.experiments.endless import SETTINGS, EndlessBench, endless
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.media.files import Frames
from nbp_core.results.files import COLUMNS, read_result
from tests.evaluation.test_keys import CONFIG, episode, shard
from tests.support.models import build_tokenizer, build_transformer, save_pipeline

FULL = SamplingConfig(block_shape=(1, 16, 16), seed=3)
READER = replace(key_reader_config("reader"), widths=(8, 16))


@pytest.fixture(scope="module")
def bench() -> EndlessBench:
    return EndlessBench(
        pipeline=VideoPipeline(build_transformer(CONFIG), build_tokenizer()),
        reader=ActionClassifier(READER).eval(),
        episodes=[episode(seed, side=128) for seed in range(2)],
        num_keys=28,
        sampling=FULL,
    )


def test_every_window_is_a_row_and_comes_out_the_same_twice(bench: EndlessBench) -> None:
    rows = endless(bench, "as trained")
    assert rows == endless(bench, "as trained")
    assert [row["window"] for row in rows] == [0, 0, *range(1, 8)]
    assert [row["of"] for row in rows[:3]] == [
        "real clips", "reconstructed clips", "generated clips",
    ]  # fmt: skip
    assert rows[-1]["to_frame"] == 113
    assert all(set(COLUMNS["longer"]) <= row.keys() for row in rows)
    assert all(0 <= row["arm keys read right"] <= 1 for row in rows)


@pytest.mark.parametrize("name", ["no anchor", "window 3"])
def test_what_is_kept_matters_once_something_is_dropped(bench: EndlessBench, name: str) -> None:
    trained, other = endless(bench, "as trained"), endless(bench, name)
    begin, end = slice(0, 3), slice(4, None)  # a window holds four latent frames
    assert [row["sharpness"] for row in trained[begin]] == [
        row["sharpness"] for row in other[begin]
    ]
    assert [row["sharpness"] for row in trained[end]] != [row["sharpness"] for row in other[end]]


class Brightness:
    """A clip's features: brightness of its first and of its last frame."""

    name = "Frechet distance (brightness)"

    def features(self, frames_NTHWC: Frames) -> Features:
        return np.asarray(frames_NTHWC[:, [0, -1]].mean(axis=(2, 3, 4)), dtype=np.float64)


def test_each_window_has_its_distance_to_the_real_ones(bench: EndlessBench) -> None:
    measured = replace(bench, networks=[Brightness()])
    real, reconstructed, *made = [row[Brightness.name] for row in endless(measured, "as trained")]
    assert len(made) == 7
    # Random weights make other frames than the simulator. The real first windows are among those
    # that they are compared with, so they are near but not at zero.
    assert 0 < real < min(reconstructed, *made)
    clips = [clip.frames_THWC for clip in bench.episodes]
    windows = [frames[i : i + 17] for frames in clips for i in range(0, len(frames) - 16, 16)]
    everything = Brightness().features(np.stack(windows))
    assert np.array_equal(measured.references, [everything])


def test_keys_are_random_held_and_the_same_for_all_settings(bench: EndlessBench) -> None:
    keys = bench.keys_NK(SETTINGS["as trained"])
    assert keys == bench.keys_NK(SETTINGS["window 3"])
    assert [len(row) for row in keys] == [28, 28]
    assert keys[0] != keys[1]
    assert len(set(keys[0])) > 3


def test_keys_lead_out_of_reach_in_one_setting_alone(bench: EndlessBench) -> None:
    config = replace(CONFIG, key_reach=(("left", 1, "right", 1),))
    limited = replace(bench, pipeline=VideoPipeline(build_transformer(config), build_tokenizer()))
    pressed = limited.keys_NK(SETTINGS["no reach"])
    followed = limited.keys_NK(SETTINGS["as trained"])
    assert pressed == bench.keys_NK(SETTINGS["as trained"]), (
        "a model without key_reach has no limit"
    )
    for before, after in zip(pressed, followed, strict=True):
        changed = {(a, b) for a, b in zip(before, after, strict=True) if a != b}
        assert changed
        assert changed <= {("left", "stay"), ("right", "stay")}


def test_the_command_continues_where_it_was_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = save_pipeline(tmp_path, CONFIG), tmp_path / "endless.json"
    reader, episodes = tmp_path / "reader", tmp_path / "arm"
    save_model(reader, "classifier", READER, ActionClassifier(READER).state_dict(), dtype=None)
    episodes.mkdir()
    shard(episodes / "val-0000.tar", range(2))
    common = ["experiment", "endless", "--model", str(model), "--arm-keys", str(episodes)]
    common += ["--key-reader", str(reader), "--block", "1x16x16", "--device", "cpu"]
    common += ["--count", "1", "--num-keys", "4", "--out", str(out)]
    assert main([*common, "--settings", "as trained"]) == 0
    first = json.loads(out.read_text())["rows"]
    assert main([*common, "--settings", "as trained", "temperature 1"]) == 0
    rows = read_result(out).rows
    assert list(rows[: len(first)]) == first
    assert {row["block"] for row in rows} == {"as trained", "temperature 1"}
    assert np.isfinite([float(str(row["sharpness"])) for row in rows]).all()
    assert main([*common, "--seed", "4"]) == 2
    assert "with another sampling" in capsys.readouterr().err
