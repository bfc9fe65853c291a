"""The checkpoint of a run: one file, the same however many processes made it.

Weights and optimiser states are kept whole, by the names of the parameters, so a run may go on with
another number of processes, or sharded. All processes must call these together.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

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

from nbp_core.train.loop.optimizers import AveragedWeights
from nbp_core.train.loop.task import Task

CHECKPOINT_FILE = "checkpoint.pt"
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
    """Writes the checkpoint, whole or not at all. counts: steps, seconds, tflop so far."""
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
        path = run_folder / CHECKPOINT_FILE
        partial = path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(path)
    here.wait_for_everyone()


def load_state(
    run_folder: Path, task: Task, averages: AveragedWeights, optimizers: list[torch.optim.Optimizer]
) -> Counts:
    """Puts everything back as it was; steps, seconds and tflop until then."""
    path = run_folder / CHECKPOINT_FILE
    state = torch.load(path, map_location="cpu", weights_only=True)
    set_model_state_dict(task.model, state["averaged"], options=_WHOLE)
    averages.take(state["num_averaged"])
    set_model_state_dict(task.model, state["model"], options=_WHOLE)
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        set_optimizer_state_dict(task.model, optimizer, saved, options=_WHOLE)
    task.load_extra_state(state["extra"])
    counts: Counts = tuple(state["counts"])
    return counts
