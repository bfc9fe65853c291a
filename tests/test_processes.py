"""Training by several processes: two on this machine's processor, talking over gloo."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nbp_core import BlockTransformer
from tests.test_trainer import losses, run_transformer

STEPS = 6


def run_processes(call: str, count: int = 2) -> None:
    """Runs a call of this module in so many processes that know of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
        "OMP_NUM_THREADS": "1",
    }
    program = f"from pathlib import Path; from tests import test_processes as t; t.{call}"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]
    assert [process.wait(timeout=100) for process in processes] == [0] * count


def train(folder: Path, muon_lr: float) -> None:
    run_transformer(folder, STEPS, muon_lr)


def model_of(folder: Path) -> dict[str, torch.Tensor]:
    return BlockTransformer.from_pretrained(folder / "run" / "model").state_dict()


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    train(folder, 0.01)
    return folder


def same_run(first: Path, second: Path) -> None:
    np.testing.assert_allclose(losses(first), losses(second), rtol=2e-5)
    for one, other in zip(model_of(first).values(), model_of(second).values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-3)


def test_two_processes_equal_one_with_the_whole_batch(alone: Path, tmp_path: Path) -> None:
    run_processes(f"train(Path({str(tmp_path)!r}), 0.01)")
    same_run(alone, tmp_path)


def test_parts_computed_one_after_the_other_equal_the_whole_batch(
    alone: Path, tmp_path: Path
) -> None:
    run_transformer(tmp_path, STEPS, 0.01, accumulate=2)
    same_run(alone, tmp_path)


def test_a_batch_that_does_not_divide_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a batch of 2 clips cannot be cut into 3 equal parts"):
        run_transformer(tmp_path, 1, accumulate=3)
