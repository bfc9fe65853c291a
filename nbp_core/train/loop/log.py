"""Writes the figures of each step of a run: metrics.jsonl, and TensorBoard files if installed."""

from __future__ import annotations

import json
import logging
from importlib.util import find_spec
from pathlib import Path

from nbp_core.media.files import write_text

_log = logging.getLogger(__name__)

METRICS_FILE = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


class RunLog:
    """Appends to a run's figures. Figures of steps after `step` are removed: these run again."""

    def __init__(self, run_folder: Path, step: int) -> None:
        self.path = run_folder / METRICS_FILE
        if self.path.is_file():
            rows = _read_rows(self.path)
            kept = [line for number, line in rows if number <= step]
            write_text(self.path, "".join(line + "\n" for line in kept))
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


def last_step(run_folder: Path) -> int | None:
    """The last step whose figures a run has written, if any."""
    path = run_folder / METRICS_FILE
    rows = _read_rows(path) if path.is_file() else []
    return rows[-1][0] if rows else None


def _read_rows(path: Path) -> list[tuple[int, str]]:
    """(step, line) of each line, without a last line that was cut when the run was killed.

    Raises ValueError for any other line that is not a step's figures.
    """
    lines = path.read_text(errors="replace").splitlines()
    rows: list[tuple[int, str]] = []
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            rows.append((int(json.loads(line)["step"]), line))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            place = f"{path.name}, line {index + 1}"
            if index + 1 < len(lines):
                raise ValueError(
                    f"{place}: not the figures of a step; delete the line to resume the run"
                ) from error
            _log.warning("%s: cut when the run was killed, and left out", place)
    return rows
