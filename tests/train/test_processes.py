"""Training by several processes: two on this machine's processor, talking over gloo."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator, FullyShardedDataParallelPlugin
from accelerate.utils import DistributedType

from nbp_core import BlockTransformer
from nbp_core.train.loop import optimizers, trainer
from nbp_core.train.loop.trainer import new_accelerator
from nbp_core.train.transformer import run
from tests.support.ports import free_port
from tests.train.test_trainer import losses, run_transformer

STEPS = 6


def run_processes(call: str, count: int = 2) -> None:
    """Runs a call of this module in so many processes that know of each other."""
    common = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    program = f"from pathlib import Path; from tests.train import test_processes as t; t.{call}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]
    assert [process.wait(timeout=100) for process in processes] == [0] * count


def compute_in_float32() -> None:
    """Parts of a batch sum to the whole as nearly as float32 has it, not as bfloat16."""
    for module in (optimizers, trainer):
        module.__dict__["has_fast_bfloat16"] = lambda device: False


def train(folder: Path, accumulate: int = 1) -> None:
    compute_in_float32()
    run_transformer(folder, STEPS, 0.01, accumulate=accumulate)


def train_sharded(folder: Path, stop_after: int | None) -> None:
    """Weights in shards. accelerate shards on GPUs only, so its state is told to do so here."""

    def sharding(device: str, accumulate: int) -> Accelerator:
        accelerator = new_accelerator(device, accumulate)
        accelerator.state.distributed_type = DistributedType.FSDP
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin(
            fsdp_version=2,
            auto_wrap_policy="transformer_based_wrap",
            transformer_cls_names_to_wrap=["Layer"],
            reshard_after_forward=True,
        )
        return accelerator

    compute_in_float32()
    run.__dict__["new_accelerator"] = sharding
    run_transformer(folder, STEPS, 0.01, stop_after=stop_after)


def model_of(folder: Path) -> dict[str, torch.Tensor]:
    return BlockTransformer.from_pretrained(folder / "run" / "model").state_dict()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    run_processes(f"train(Path({str(folder)!r}))", count=1)
    return folder


def same_run(first: Path, second: Path) -> None:
    np.testing.assert_allclose(losses(first), losses(second), rtol=2e-5)
    for one, other in zip(model_of(first).values(), model_of(second).values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-3)


def test_two_processes_equal_one_with_the_whole_batch(alone: Path, tmp_path: Path) -> None:
    run_processes(f"train(Path({str(tmp_path)!r}))")
    same_run(alone, tmp_path)


@pytest.mark.slow
def test_sharded_weights_make_the_same_run_and_one_process_can_go_on_with_it(
    alone: Path, tmp_path: Path
) -> None:
    sharded = tmp_path / "sharded"
    run_processes(f"train_sharded(Path({str(sharded)!r}), None)")
    same_run(alone, sharded)
    begun = tmp_path / "begun"
    run_processes(f"train_sharded(Path({str(begun)!r}), 3)")
    assert len(losses(begun)) == 3
    run_processes(f"train(Path({str(begun)!r}))", count=1)
    same_run(alone, begun)


def test_parts_computed_one_after_the_other_equal_the_whole_batch(
    alone: Path, tmp_path: Path
) -> None:
    run_processes(f"train(Path({str(tmp_path)!r}), accumulate=2)", count=1)
    same_run(alone, tmp_path)


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a batch of 2 clips cannot be cut into 3 equal parts"):
        run_transformer(tmp_path, 1, accumulate=3)
