"""A row per block shape, from the command line: losses, keys obeyed, time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nbp_core.checkpoint import save_model
from nbp_core.cli.main import main
from nbp_core.config.sampling import SamplingConfig
from nbp_core.data.arm_keys import ARM_KEYS
from nbp_core.evaluation.classifier import ActionClassifier
from nbp_core.experiments.play_blocks import PlayBench, play_blocks
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.results.files import read_result
from tests.evaluation.test_keys import CONFIG, episode, shard
from tests.experiments.test_endless import READER
from tests.support.models import build_tokenizer, build_transformer, save_pipeline


def bench(transformer: torch.nn.Module, **changes: object) -> PlayBench:
    pipeline = VideoPipeline(transformer, build_tokenizer())  # type: ignore[arg-type]
    episodes = [episode(seed, side=128, count=4) for seed in range(2)]
    made = PlayBench(
        pipeline=pipeline, world="arm", episodes=episodes, sampling=SamplingConfig(seed=3),
        reader=ActionClassifier(READER).eval(),
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def test_a_key_counts_only_for_a_model_that_hears_it() -> None:
    deaf = build_transformer(CONFIG)
    with torch.no_grad():
        for name, weights in deaf.named_parameters():
            if "frame_emb" in name or "aim" in name:
                weights.zero_()
    (row,) = play_blocks(bench(deaf), "1x4x16")
    assert row["loss"] == row["loss without keys"]
    hears = build_transformer(CONFIG)
    with torch.no_grad():
        hears.frame_emb.weight.normal_()
    (row,) = play_blocks(bench(hears), "1x4x16")
    assert row["loss"] != row["loss without keys"]
    assert row["steps"] == 4
    assert 0 <= row["arm keys read right"] <= 1


def test_the_loss_is_of_the_latent_frames_after_the_first() -> None:
    """The first latent frame's tokens are given: a change there alone may change the loss of
    others, but an episode of other keys has the same tokens and another loss."""
    model = build_transformer(CONFIG)
    with torch.no_grad():
        model.frame_emb.weight.normal_()
    made = bench(model)
    swapped = {key: ARM_KEYS[(i + 1) % len(ARM_KEYS)] for i, key in enumerate(ARM_KEYS)}
    others = [
        replace(clip, keys=tuple(swapped[key] for key in clip.keys)) for clip in made.episodes
    ]
    rows = [play_blocks(b, "1x16x16")[0] for b in (made, replace(made, episodes=others))]
    np.testing.assert_array_equal(made.tokens_Nthw, replace(made, episodes=others).tokens_Nthw)
    assert rows[0]["loss"] != rows[1]["loss"]
    assert rows[0]["loss without keys"] == rows[1]["loss without keys"]


def test_the_command_writes_a_row_per_block_and_continues(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = save_pipeline(tmp_path, CONFIG), tmp_path / "blocks.json"
    reader, episodes = tmp_path / "reader", tmp_path / "arm"
    save_model(reader, "classifier", READER, ActionClassifier(READER).state_dict(), dtype=None)
    episodes.mkdir()
    shard(episodes / "val-0000.tar", range(1))
    common = ["experiment", "play-blocks", "--model", str(model), "--device", "cpu"]
    common += ["--count", "1", "--out", str(out)]
    arm = ["--arm-keys", str(episodes), "--key-reader", str(reader)]
    assert main([*common, *arm, "--blocks", "1x16x16"]) == 0
    assert main([*common, *arm, "--blocks", "1x16x16", "1x4x16"]) == 0
    rows = read_result(out).rows
    assert [row["block"] for row in rows] == ["1x16x16", "1x4x16"]
    assert [row["steps"] for row in rows] == [1, 4]
    small = replace(CONFIG, grid=(5, 8, 8), block_shape=(1, 1, 8))
    other = ["--model", str(save_pipeline(tmp_path / "small", small))]
    assert main([*common, *arm, *other]) == 2
    assert "the model has a grid of 5x8x8 tokens" in capsys.readouterr().err
    assert main([*common]) == 2
    assert "give either --arm-keys and --key-reader, or --panoramas" in capsys.readouterr().err
    assert main([*common, *arm[:2]]) == 2
    assert "go together" in capsys.readouterr().err
