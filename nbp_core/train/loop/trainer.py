"""The training loop for all models, on a CPU, one GPU or many processes.

Input: a Task (a model and its loss at a given step) and an Accelerator. Output: a TrainStep per
step, and a run folder with metrics.jsonl and a checkpoint to resume from. It knows neither clips
nor tokens. Each step draws its batch from (seed, step) alone, so a killed run resumes exactly, and
each process computes its part of that batch. Hugging Face accelerate distributes the work, as
copies of the model or as sharded weights.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from math import inf
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs, broadcast
from torch import nn
from torch.distributed.fsdp import FSDPModule

from nbp_core.checkpoint import save_model
from nbp_core.config.json import MOST, JsonConfig, check_positive, check_range
from nbp_core.device import choose_device, has_fast_bfloat16
from nbp_core.train.loop.checkpoint import CHECKPOINT_FILE, load_state, save_state, whole_weights
from nbp_core.train.loop.log import RunLog
from nbp_core.train.loop.optimizers import AveragedWeights, make_optimizers
from nbp_core.train.loop.task import Part, Task

MODEL_FOLDER = "model"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig(JsonConfig):
    """Budget and optimiser of a run. Raises ValueError unless exactly one budget is given."""

    minutes: float | None = None
    """Wall-clock budget in all, resumptions included; the learning-rate schedule ends with it."""
    steps: int | None = None
    """Budget in steps."""
    tflop: float | None = None
    """Compute budget in 10^12 operations (transformers only), to compare runs at equal compute."""
    lr: float
    """Peak learning rate of AdamW. It rises over warmup_steps and falls linearly with progress."""
    batch_size: int
    """Clips per step, over all processes."""
    accumulate: int = 1
    """Gradient accumulation: number of parts of a process' batch, computed one after the other."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.98)
    muon_lr: float | None = None
    """Peak learning rate of Muon, which trains the matrices; None trains all with AdamW."""
    warmup_steps: int = 100
    grad_clip: float = 1.0
    ema_decay: float = 0.999
    """Decay of the moving average of the weights, which is the trained model."""
    seed: int = 0
    validate_minutes: float = 5.0
    validate_steps: int | None = None
    """Also validates whenever this many steps have passed."""
    checkpoint_minutes: float = 2.0

    def __post_init__(self) -> None:
        if sum(budget is not None for budget in (self.minutes, self.steps, self.tflop)) != 1:
            raise ValueError("give either a number of minutes, of steps or of tflop")
        check_range(self, 1, MOST, "steps", "batch_size", "accumulate", "warmup_steps")
        check_range(self, 1, MOST, "validate_steps")
        check_positive(self, "minutes", "tflop", "lr", "muon_lr", "grad_clip", "validate_minutes")
        check_range(self, 0, inf, "checkpoint_minutes", "weight_decay")
        check_range(self, 0, 2**63 - 1, "seed")
        check_range(self, 0, 1, "betas", "ema_decay")

    @property
    def is_long(self) -> bool:
        """Whether the run takes about ten minutes or more where small models train."""
        budgets = ((self.minutes, 10), (self.steps, 1000), (self.tflop, 100))
        return any(budget is not None and budget >= least for budget, least in budgets)


@dataclass(frozen=True, slots=True)
class TrainStep:
    """One training step, with its metrics and, as val_..., those of a validation after it."""

    step: int
    progress: float
    """Share of the budget that is spent, 0 to 1."""
    metrics: dict[str, float]


def new_accelerator(device: str, accumulate: int = 1) -> Accelerator:
    """The Accelerator of this process: its device, its rank and the precision to compute in.

    There is one process unless `accelerate launch` started several. device: "cpu" or "cuda".
    accumulate: gradient accumulation steps. Raises ValueError for a missing device.
    """
    usual = "bf16" if has_fast_bfloat16(torch.device(choose_device(device))) else "no"
    is_launched = "ACCELERATE_MIXED_PRECISION" in os.environ  # by accelerate, with its own setting
    return Accelerator(
        cpu=device == "cpu",
        mixed_precision=None if is_launched else usual,
        gradient_accumulation_steps=accumulate,
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False),
            # The first process may decode or encode a whole data set while the others wait.
            InitProcessGroupKwargs(timeout=timedelta(hours=24)),
        ],
    )


def check_parts(config: TrainConfig, num_processes: int) -> None:
    """Raises ValueError for a batch that the processes cannot share in equal parts."""
    num_parts = num_processes * config.accumulate
    if config.batch_size % num_parts:
        raise ValueError(
            f"a batch of {config.batch_size} clips cannot be cut into {num_parts} equal parts "
            f"({num_processes} process{'es' * (num_processes > 1)}, {config.accumulate} parts each)"
        )


class _Step(nn.Module):
    """A task as one module, so that DDP and FSDP wrap the model and its loss together."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.model = task.model
        self._task = task

    def forward(self, step: int, progress: float, part: Part | None) -> Any:
        """(loss, figures) of a part of a step; the figures of a validation if part is None."""
        if part is None:
            return self._task.validate()
        return self._task.loss(step, progress, part)


class Trainer:
    """Runs a Task within its budget; `run()` yields one TrainStep per step."""

    def __init__(
        self, task: Task, config: TrainConfig, run_folder: Path, accelerator: Accelerator
    ) -> None:
        self.task = task
        self.config = config
        self.run_folder = run_folder
        self.accelerator = accelerator
        check_parts(config, accelerator.num_processes)
        optimizers = make_optimizers(
            task.model, config.lr, config.muon_lr, config.weight_decay, config.betas
        )
        self.module, *wrapped = accelerator.prepare(_Step(task), *optimizers)
        self.optimizers: list[torch.optim.Optimizer] = wrapped
        self.base_lrs = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.averages = AveragedWeights(task.model, config.ema_decay)
        self.step = 0
        self.elapsed = 0.0
        self.tflop = 0.0
        run_folder.mkdir(parents=True, exist_ok=True)
        if (run_folder / CHECKPOINT_FILE).is_file():
            counts = load_state(run_folder, task, self.averages, self._bare_optimizers)
            self.step, self.elapsed, self.tflop = int(counts[0]), counts[1], counts[2]
        accelerator.wait_for_everyone()
        self.log = RunLog(run_folder, self.step) if accelerator.is_main_process else None

    @property
    def _bare_optimizers(self) -> list[torch.optim.Optimizer]:
        return [getattr(wrapped, "optimizer", wrapped) for wrapped in self.optimizers]

    @property
    def progress(self) -> float:
        """Share of the budget that is spent, 0 to 1."""
        config = self.config
        if config.steps is not None:
            return min(1.0, self.step / config.steps)
        if config.tflop is not None:
            return min(1.0, self.tflop / config.tflop)
        assert config.minutes is not None
        return min(1.0, self.elapsed / (60 * config.minutes))

    def save_model(
        self,
        kind: str,
        config: JsonConfig,
        tokenizer: dict[str, str] | None = None,
        dtype: torch.dtype | None = torch.float16,
        metadata: dict[str, str] | None = None,
    ) -> None:
        """Writes the averaged model as a folder of its own, model/ in the run folder."""
        with self.averages.in_place():
            weights = whole_weights(self.task.model)
        if self.accelerator.is_main_process:
            facts = {"steps": str(self.step), "minutes": f"{self.elapsed / 60:.1f}"}
            facts |= metadata or {}
            folder = self.run_folder / MODEL_FOLDER
            save_model(
                folder, kind, config, weights, dtype=dtype, tokenizer=tokenizer, metadata=facts
            )
        self.accelerator.wait_for_everyone()

    def run(self) -> Iterator[TrainStep]:
        """Trains until the budget is spent. The last step has the metrics of a last validation."""
        start = time.monotonic() - self.elapsed

        def now() -> float:
            """The first process' seconds, so that all validate, save and end at equal steps."""
            seconds = time.monotonic() - start
            if self.accelerator.num_processes == 1:
                return seconds
            clock = torch.tensor(seconds, dtype=torch.float32, device=self.accelerator.device)
            return float(broadcast(clock))

        next_validation = self.elapsed + 60 * self.config.validate_minutes
        next_checkpoint = self.elapsed + 60 * self.config.checkpoint_minutes
        while self.progress < 1:
            metrics = self._train_step()
            self.elapsed = now()
            ended = self.progress >= 1
            every = self.config.validate_steps
            is_due = every is not None and self.step % every == 0
            if ended or is_due or self.elapsed >= next_validation:
                metrics |= {f"val_{k}": v for k, v in self._validate().items()}
                next_validation = now() + 60 * self.config.validate_minutes
            if self.log is not None:
                self.log.write(self.step, self.elapsed, metrics)
            if ended or self.elapsed >= next_checkpoint:
                counts = (self.step, self.elapsed, self.tflop)
                save_state(self.run_folder, self.task, self.averages, self._bare_optimizers, counts)
                next_checkpoint = now() + 60 * self.config.checkpoint_minutes
            yield TrainStep(self.step, self.progress, metrics)

    def _train_step(self) -> dict[str, float]:
        config, began = self.config, time.monotonic()
        scale = min(1.0, (self.step + 1) / config.warmup_steps) * max(1e-3, 1 - self.progress)
        for optimizer, lrs in zip(self.optimizers, self.base_lrs, strict=True):
            for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                group["lr"] = lr * scale
        self.module.train()
        figures = [self._backward(number) for number in range(config.accumulate)]
        norm = self.accelerator.clip_grad_norm_(self.module.parameters(), config.grad_clip)
        if not math.isfinite(float(norm)):
            raise ValueError(
                f"the gradient is not a finite number at step {self.step}: train with a lower lr, "
                "in another run folder"
            )
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.averages.update()
        metrics = self._mean(figures)
        metrics |= self.task.after_step(self.accelerator)
        self.tflop += metrics.get("tflop", 0.0)
        self.step += 1
        return {**metrics, "grad_norm": float(norm), "seconds": time.monotonic() - began}

    def _backward(self, number: int) -> dict[str, float]:
        """Adds the gradient of one of this process' parts of the batch."""
        config, here = self.config, self.accelerator
        part = Part(
            here.process_index * config.accumulate + number, here.num_processes * config.accumulate
        )
        # Dropout differs between parts and is the same again when a step is run again.
        torch.manual_seed((config.seed * 1_000_003 + self.step + 7_919 * part.index) % 2**63)
        with here.accumulate(self.module):
            loss, figures = self.module(self.step, self.progress, part)
            here.backward(loss)
        return {"loss": float(loss.detach()), **figures}

    def _mean(self, figures: list[dict[str, float]]) -> dict[str, float]:
        """The mean over all parts of the batch, over all processes."""
        table = torch.tensor([list(row.values()) for row in figures], dtype=torch.float64)
        mean = table.mean(0)
        if self.accelerator.num_processes > 1:
            mean = self.accelerator.reduce(mean.to(self.accelerator.device), "mean")
        return dict(zip(figures[0], mean.tolist(), strict=True))

    @torch.no_grad()
    def _validate(self) -> dict[str, float]:
        self.module.eval()
        with self.averages.in_place():
            figures: dict[str, float] = self.module(self.step, self.progress, None)
            for part in self.module.modules():
                if isinstance(part, FSDPModule):
                    part.reshard()  # else the next step would start from the averaged weights
        return figures
