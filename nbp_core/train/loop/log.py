"""The figures of a run, step by step: metrics.jsonl, and TensorBoard's files where it is installed.

Knows nothing of what the figures mean.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class RunLog:
    """Appends to a run's figures; figures of steps after `step`, to be run again, are dropped."""

    def __init__(self, run_folder: Path, step: int) -> None:
        self.path = run_folder / METRICS_FILE
        if self.path.is_file():
            lines = [line for line in self.path.read_text().splitlines() if line]
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            self.path.write_text("".join(line + "\n" for line in kept))
        self.board = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(run_folder / TENSORBOARD_FOLDER, purge_step=step + 1)

    def write(self, step: int, elapsed: float, metrics: dict[str, float]) -> None:
        row = {"step": step, "elapsed": round(elapsed, 2)}
        row |= {k: float(f"{v:.6g}") for k, v in metrics.items()}
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        if self.board is not None:
            for name, value in metrics.items():
                group = "validation/" if name.startswith("val_") else "training/"
                self.board.add_scalar(group + name.removeprefix("val_"), value, step)
