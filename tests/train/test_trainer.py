import itertools
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nbp_core import BlockTransformer, VideoTokenizer
from nbp_core.checkpoint import save_model
from nbp_core.config.description import CheckpointError
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import FIGURE6_SHAPES, Size3
from nbp_core.config.weight_files import weights_sha256
from nbp_core.data.tokens import TokenSet
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.train.loop.trainer import TrainConfig, new_accelerator
from nbp_core.train.tokenizer import TokenizerRecipe, train_tokenizer
from nbp_core.train.transformer.recipe import TransformerRecipe
from nbp_core.train.transformer.run import train_transformer
from tests.support.models import (
    ACTIONS,
    CODES,
    build_tokenizer,
    tokenizer_config,
    transformer_config,
)

STEPS = 12
SMALL_GRID = (5, 4, 16)
SHAPES = FIGURE6_SHAPES[:5]


def token_set(count: int, grid: Size3, seed: int = 0) -> TokenSet:
    """Clips of few codes whose rows repeat each other: easy to learn with any block."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, CODES // 6, (count, 1, 1, 16))
    tokens = np.broadcast_to(rows, (count, *grid)).astype(np.uint16)
    return TokenSet(tokens, [ACTIONS[i % 3] for i in range(count)], ["stock"] * count)


def train_config(steps: int, **changes: Any) -> TrainConfig:
    settings = {"lr": 3e-3, "warmup_steps": 2, "checkpoint_minutes": 0.0, **changes}
    return TrainConfig(steps=steps, batch_size=2, seed=5, **settings)


def run_transformer(
    folder: Path,
    steps: int,
    muon_lr: float | None = None,
    grid: Size3 = SMALL_GRID,
    start_from: Path | None = None,
    accumulate: int = 1,
    stop_after: int | None = None,
    num_layers: int = 2,
) -> None:
    tokenizer = build_tokenizer()
    save_model(folder / "nano", "tokenizer", tokenizer.config, tokenizer.state_dict())
    config = train_config(steps, muon_lr=muon_lr, accumulate=accumulate)
    recipe = TransformerRecipe(num_validation_clips=2, shapes=SHAPES, shape_weights=(0.2,) * 5)
    clips = token_set(12, grid), token_set(4, grid, seed=1)
    model = replace(transformer_config(grid=grid), num_layers=num_layers)
    reference = {"folder": "../../nano", "sha256": weights_sha256(folder / "nano")}
    run = folder / "run"
    steps_made = train_transformer(
        model, recipe, config, run, *clips, reference, start_from=start_from
    )
    for _ in itertools.islice(steps_made, stop_after):
        continue


def losses(folder: Path) -> list[float]:
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def wait_for_step(folder: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    metrics = folder / "run" / "metrics.jsonl"
    while not metrics.is_file() or len(metrics.read_text().splitlines()) < step:
        assert process.poll() is None
        time.sleep(0.02)


@pytest.mark.parametrize("muon_lr", [None, 0.01])
def test_killed_and_resumed_equals_unbroken(tmp_path: Path, muon_lr: float | None) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run_transformer(whole, STEPS, muon_lr)
    program = (
        f"import torch; torch.set_num_threads({torch.get_num_threads()}); from pathlib import Path;"
        "from tests.train.test_trainer import run_transformer;"
        f"run_transformer(Path({str(broken)!r}), {STEPS}, {muon_lr})"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    wait_for_step(broken, 4, process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(losses(broken)) < STEPS
    run_transformer(broken, STEPS, muon_lr)
    assert losses(broken) == losses(whole)
    first, second = (
        BlockTransformer.from_pretrained(folder / "run" / "model").state_dict()
        for folder in (whole, broken)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_trained_model_is_a_folder_the_pipeline_loads(tmp_path: Path) -> None:
    run_transformer(tmp_path, 1, grid=(5, 16, 16))
    pipeline = VideoPipeline.from_pretrained(tmp_path / "run" / "model")
    sampling = SamplingConfig(block_shape=(1, 16, 16))
    frames = np.zeros((13, 128, 128, 3), np.uint8)
    assert pipeline.generate("door-open", frames, sampling=sampling).is_complete


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    run_transformer(folder, 30)
    return folder


def test_the_elastic_model_learns_every_block_shape(trained: Path) -> None:
    lines = (trained / "run" / "metrics.jsonl").read_text().splitlines()
    final = json.loads(lines[-1])
    uniform = np.log(CODES)
    validation = {k: v for k, v in final.items() if k.startswith("val_")}
    assert len(validation) == 5
    assert 0 < final["tflop"] < 1
    assert all(value < uniform - 0.5 for value in validation.values())


def test_a_budget_in_minutes_ends_in_time(tmp_path: Path) -> None:
    frames = np.zeros((2, 9, 64, 64, 3), np.uint8)
    config = TrainConfig(minutes=0.05, lr=1e-3, batch_size=1)
    began = time.monotonic()
    steps = list(
        train_tokenizer(
            tokenizer_config(),
            TokenizerRecipe(num_validation_clips=1),
            config,
            tmp_path,
            frames,
            frames,
            None,
        )
    )
    assert steps[-1].progress == 1
    assert "val_psnr" in steps[-1].metrics
    assert time.monotonic() - began < 60
    assert VideoTokenizer.from_pretrained(tmp_path / "model").config == tokenizer_config()


def test_the_tokenizer_learns(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 256, (8, 1, 1, 1, 3), dtype=np.uint8)
    frames = np.broadcast_to(colours, (8, 9, 64, 64, 3)).copy()
    recipe = TokenizerRecipe(num_validation_clips=2, photo_share=0)
    config = train_config(20)
    steps = list(
        train_tokenizer(tokenizer_config(), recipe, config, tmp_path, frames, frames, None)
    )
    assert steps[-1].metrics["psnr"] > steps[0].metrics["psnr"] + 3


@pytest.mark.parametrize("num_layers", [2, 3], ids=["same-size", "grown"])
def test_training_goes_on_from_another_models_weights(
    trained: Path, tmp_path: Path, num_layers: int
) -> None:
    model = trained / "run" / "model"
    run_transformer(tmp_path, 1, start_from=model, num_layers=num_layers)
    assert losses(tmp_path)[0] < losses(trained)[0] - 0.5


def test_a_start_of_other_sizes_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, "transformer", transformer_config(), build_tokenizer().state_dict())
    with pytest.raises(CheckpointError, match="do not fit"):
        run_transformer(tmp_path / "next", 1, start_from=tmp_path)


def test_a_budget_is_needed_and_only_one() -> None:
    with pytest.raises(ValueError, match="either"):
        TrainConfig(lr=1e-3, batch_size=1)
    with pytest.raises(ValueError, match="either"):
        TrainConfig(lr=1e-3, batch_size=1, minutes=1, steps=1)


def test_any_seed_that_is_taken_trains(tmp_path: Path) -> None:
    clips = token_set(2, SMALL_GRID)
    recipe = TransformerRecipe(num_validation_clips=1, shapes=SHAPES[2:3], shape_weights=(1.0,))
    config = replace(train_config(1), seed=2**63 - 1)
    model = replace(transformer_config(grid=SMALL_GRID), num_layers=1)
    assert list(train_transformer(model, recipe, config, tmp_path / "run", clips, clips, {}))


def test_a_gradient_that_is_no_number_is_a_sentence(tmp_path: Path) -> None:
    clips = token_set(2, SMALL_GRID)
    recipe = TransformerRecipe(num_validation_clips=1, shapes=SHAPES[2:3], shape_weights=(1.0,))
    config = train_config(30, lr=1e30, warmup_steps=1)
    model = replace(transformer_config(grid=SMALL_GRID), num_layers=1)
    with pytest.raises(ValueError, match=r"not a finite number at step .* lower lr"):
        list(train_transformer(model, recipe, config, tmp_path / "run", clips, clips, {}))


def test_a_missing_gpu_is_said_whatever_started_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")  # as `accelerate launch` does
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA device was found"):
        new_accelerator("cuda")
