"""The checkpoint of a run: one file, which does not depend on the number of processes.

Weights and optimiser states are stored unsharded, by parameter name. So a run can continue with
another number of processes, or sharded. All processes must call these functions together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from nbp_core.config.json import reason
from nbp_core.train.loop.optimizers import AveragedWeights
from nbp_core.train.loop.task import Task

CHECKPOINT_FILE = "checkpoint.pt"
_KEYS = {"model", "averaged", "num_averaged", "optimizers", "extra", "counts"}
Counts = tuple[float, float, float]

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def whole_weights(model: nn.Module) -> dict[str, Tensor]:
    """A copy of a model's state dict, gathered on the first process; empty on the others."""
    weights = cast(dict[str, Tensor], get_model_state_dict(model, options=_WHOLE))
    return {name: value.clone() for name, value in weights.items()}


def save_state(
    run_folder: Path,
    task: Task,
    averages: AveragedWeights,
    optimizers: list[torch.optim.Optimizer],
    counts: Counts,
) -> None:
    """Writes the checkpoint, completely or not at all. counts: steps, seconds, tflop so far.

    Raises ValueError if the file cannot be written.
    """
    with averages.in_place():
        averaged = whole_weights(task.model)
    state = {
        "model": whole_weights(task.model),
        "averaged": averaged,
        "num_averaged": averages.count,
        "optimizers": [
            get_optimizer_state_dict(task.model, optimizer, options=_WHOLE)
            for optimizer in optimizers
        ],
        "extra": task.extra_state(),
        "counts": counts,
    }
    here = PartialState()
    if here.is_main_process:
        _write(run_folder / CHECKPOINT_FILE, state)
    here.wait_for_everyone()


def load_state(
    run_folder: Path, task: Task, averages: AveragedWeights, optimizers: list[torch.optim.Optimizer]
) -> Counts:
    """Restores model, averages and optimisers; returns steps, seconds and tflop so far.

    Raises ValueError for a damaged checkpoint, or one of another model or other clips.
    """
    path = run_folder / CHECKPOINT_FILE
    path.with_suffix(".partial").unlink(missing_ok=True)  # left by a killed run
    state = _read(path)
    try:
        return _put_back(state, task, averages, optimizers)
    except (RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{path.name} in run folder {run_folder.name!r} belongs to another model or to other "
            "clips: use another run folder"
        ) from error


def _write(path: Path, state: dict[str, Any]) -> None:
    """Raises ValueError, and leaves no partial file, if the disk is full or refuses."""
    partial = path.with_suffix(".partial")
    try:
        torch.save(state, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # PyTorch's writer raises RuntimeError on a full disk
        refusal = error if isinstance(error, OSError) else error.__context__
        why = reason(refusal) if isinstance(refusal, OSError) else "the disk may be full"
        raise ValueError(
            f"{path.name} in run folder {path.parent.name!r} cannot be written: {why}"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    """Raises ValueError for a file that is truncated, damaged or not a checkpoint."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise ValueError(f"{path.name} cannot be read: {reason(error)}") from error
    with file:
        try:
            state = torch.load(file, map_location="cpu", weights_only=True)
        except Exception:  # zip, pickle and PyTorch raise many kinds for damaged bytes
            state = None
    if not isinstance(state, dict) or not state.keys() >= _KEYS:
        raise ValueError(
            f"{path.name} in run folder {path.parent.name!r} is cut or damaged: delete it to train "
            "from the start, or put a copy back"
        )
    return state


def _put_back(
    state: dict[str, Any],
    task: Task,
    averages: AveragedWeights,
    optimizers: list[torch.optim.Optimizer],
) -> Counts:
    set_model_state_dict(task.model, state["averaged"], options=_WHOLE)
    averages.take(state["num_averaged"])
    set_model_state_dict(task.model, state["model"], options=_WHOLE)
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        set_optimizer_state_dict(task.model, optimizer, saved, options=_WHOLE)
    task.load_extra_state(state["extra"])
    counts: Counts = tuple(state["counts"])
    return counts
