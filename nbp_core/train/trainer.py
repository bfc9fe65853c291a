"""One training loop for both models: budget, schedule, EMA, checkpoints, metrics.

Comes in: a Task (a model and its loss at a given step). Goes out: TrainSteps, as they happen, and a
run folder with metrics.jsonl and a checkpoint to resume from. Knows nothing of clips or tokens.
Each step draws its data from (seed, step) alone, so a killed run goes on exactly where it was.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from nbp_core.config import JsonConfig
from nbp_core.device import has_fast_bfloat16
from nbp_core.train.muon import Muon

CHECKPOINT_FILE = "checkpoint.pt"
METRICS_FILE = "metrics.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig(JsonConfig):
    """Budget and optimiser of a run. Raises ValueError unless exactly one budget is given."""

    minutes: float | None = None
    """Wall-clock budget: the schedule ends when the time does, resumptions counted in."""
    steps: int | None = None
    lr: float
    batch_size: int
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    muon_lr: float | None = None
    """Learning rate of Muon for the matrices; None trains everything with AdamW."""
    warmup_steps: int = 100
    grad_clip: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    validate_minutes: float = 5.0
    checkpoint_minutes: float = 2.0

    def __post_init__(self) -> None:
        if (self.minutes is None) == (self.steps is None):
            raise ValueError("give either a number of minutes or a number of steps")


@dataclass(frozen=True, slots=True)
class TrainStep:
    """What happened in one step: metrics are of the step, or of a validation after it."""

    step: int
    progress: float
    metrics: dict[str, float]


class Task(Protocol):
    """What is trained."""

    @property
    def model(self) -> nn.Module: ...

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        """Loss of the batch that belongs to this step, and figures to log."""
        ...

    def validate(self, model: nn.Module) -> dict[str, float]: ...


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the hardware multiplies it faster than float32, else float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bfloat16(device))


def compile_parts(model: nn.Module, *kinds: type[nn.Module]) -> None:
    """Compiles the repeated parts of a model on a GPU, where it pays; on a CPU it takes minutes."""
    if next(model.parameters()).is_cuda:
        for module in model.modules():
            if isinstance(module, kinds):
                module.compile(dynamic=True)


def _optimizers(model: nn.Module, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """AdamW, and Muon for the matrices inside the network if asked (not embeddings, not heads)."""
    matrices: list[nn.Parameter] = []
    if config.muon_lr is not None:
        inner = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv3d))]
        weights = [cast(nn.Parameter, layer.weight) for layer in inner]
        matrices = [w for w in weights if max(w.shape[:2]) <= 8 * min(w.shape[:2])]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)
    ]
    if matrices and config.muon_lr is not None:
        device = matrices[0].device
        dtype = torch.bfloat16 if has_fast_bfloat16(device) else torch.float32
        optimizers.append(Muon(matrices, config.muon_lr, config.weight_decay, dtype=dtype))
    return optimizers


def _ema(decay: float) -> Any:
    """Averaging that starts short, so that a brief run is not an average of its beginnings."""

    @torch.no_grad()
    def update(averaged: Any, current: Any, num_averaged: Any) -> None:
        count = float(num_averaged)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + count) / (10 + count)))

    return update


class Trainer:
    """Runs a Task within its budget; `run()` yields a TrainStep a step."""

    def __init__(self, task: Task, config: TrainConfig, run_folder: Path) -> None:
        self.task = task
        self.config = config
        self.run_folder = run_folder
        self.device = next(task.model.parameters()).device
        self.optimizers = _optimizers(task.model, config)
        self.base_lrs = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.ema = AveragedModel(task.model, multi_avg_fn=_ema(config.ema_decay), use_buffers=False)
        self.step = 0
        self.elapsed = 0.0
        run_folder.mkdir(parents=True, exist_ok=True)
        if (run_folder / CHECKPOINT_FILE).is_file():
            self._resume()

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 to 1."""
        if self.config.steps is not None:
            return min(1.0, self.step / self.config.steps)
        assert self.config.minutes is not None
        return min(1.0, self.elapsed / (60 * self.config.minutes))

    @property
    def averaged_model(self) -> nn.Module:
        module: nn.Module = self.ema.module
        return module

    def run(self) -> Iterator[TrainStep]:
        """Trains until the budget is spent; the last step yielded carries the last validation."""
        start = time.monotonic() - self.elapsed
        next_validation = self.elapsed + 60 * self.config.validate_minutes
        next_checkpoint = self.elapsed + 60 * self.config.checkpoint_minutes
        while self.progress < 1:
            metrics = self._train_step()
            self.elapsed = time.monotonic() - start
            ended = self.progress >= 1
            if ended or self.elapsed >= next_validation:
                metrics |= {f"val_{k}": v for k, v in self._validate().items()}
                next_validation = time.monotonic() - start + 60 * self.config.validate_minutes
            self._log(metrics)
            if ended or self.elapsed >= next_checkpoint:
                self._save()
                next_checkpoint = time.monotonic() - start + 60 * self.config.checkpoint_minutes
            yield TrainStep(self.step, self.progress, metrics)

    def _train_step(self) -> dict[str, float]:
        config, began = self.config, time.monotonic()
        scale = min(1.0, (self.step + 1) / config.warmup_steps) * max(1e-3, 1 - self.progress)
        for optimizer, lrs in zip(self.optimizers, self.base_lrs, strict=True):
            for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                group["lr"] = lr * scale
        self.task.model.train()
        torch.manual_seed(config.seed * 1_000_003 + self.step)
        with autocast(self.device):
            loss, metrics = self.task.loss(self.step, self.progress)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = nn.utils.clip_grad_norm_(self.task.model.parameters(), config.grad_clip)
        if not math.isfinite(float(norm)):
            raise FloatingPointError(f"the gradient is not finite at step {self.step}")
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.ema.update_parameters(self.task.model)
        self.step += 1
        seconds = time.monotonic() - began
        return {
            "loss": float(loss.detach()),
            **metrics,
            "grad_norm": float(norm),
            "seconds": seconds,
        }

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        self.averaged_model.eval()
        with autocast(self.device):
            return self.task.validate(self.averaged_model)

    def _log(self, metrics: dict[str, float]) -> None:
        row = {"step": self.step, "elapsed": round(self.elapsed, 2)}
        row |= {k: float(f"{v:.6g}") for k, v in metrics.items()}
        with (self.run_folder / METRICS_FILE).open("a") as file:
            file.write(json.dumps(row) + "\n")

    def _save(self) -> None:
        path = self.run_folder / CHECKPOINT_FILE
        partial = path.with_suffix(".partial")
        state = {
            "model": self.task.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "step": self.step,
            "elapsed": self.elapsed,
        }
        torch.save(state, partial)
        partial.replace(path)

    def _resume(self) -> None:
        path = self.run_folder / CHECKPOINT_FILE
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.task.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.elapsed = state["step"], state["elapsed"]
        self._forget_after(self.step)

    def _forget_after(self, step: int) -> None:
        """Drops metrics of steps that will be run again."""
        path = self.run_folder / METRICS_FILE
        if path.is_file():
            lines = [line for line in path.read_text().splitlines() if line]
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            path.write_text("".join(line + "\n" for line in kept))
