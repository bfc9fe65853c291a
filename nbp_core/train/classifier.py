"""Trains the ActionClassifier, which judges generated clips, on real clips.

Shapes: N clips, B batch, C colour, T H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nbp_core.config.models import ClassifierConfig
from nbp_core.data.clips import ClipSet
from nbp_core.data.sources import check_actions
from nbp_core.evaluation.classifier import ActionClassifier
from nbp_core.tokenizer.interface import to_clip
from nbp_core.train.loop.task import Part, Task
from nbp_core.train.loop.trainer import TrainConfig, Trainer, TrainStep, new_accelerator

LEAST_CROP = 0.875
"""A batch is cut to a square of at least this share of the side, anywhere in the frame."""
TINT = 0.2
"""Colour channels of a clip are scaled by up to this much."""
SMOOTHING = 0.1


class ClassifierTask(Task):
    """Cross-entropy of the action, over random crops of clips with random tints."""

    model: ActionClassifier

    def __init__(
        self, model: ActionClassifier, train: ClipSet, val: ClipSet, *, batch_size: int, seed: int
    ) -> None:
        self.model = model
        self.train = train
        self.val = val
        self.batch_size = batch_size
        self.seed = seed
        self.device = next(model.parameters()).device
        rank = {action: i for i, action in enumerate(model.config.actions)}
        self.targets = np.array([rank[action] for action in train.actions])
        self.mirrors = mirrored(model.config.actions)

    def loss(self, step: int, progress: float, part: Part) -> tuple[Tensor, dict[str, float]]:
        # An epoch is a permutation, so that every clip is seen equally often.
        per_epoch = max(1, len(self.train) // self.batch_size)
        order = np.random.default_rng([self.seed, step // per_epoch]).permutation(len(self.train))
        first = step % per_epoch * self.batch_size
        rows = np.sort(order[first : first + self.batch_size])
        # A process without a clip of its own computes one, whose weight is 0.
        count = len(rows)
        rows = rows[part.own if part.index < count else slice(0, 1)]
        rng = np.random.default_rng([self.seed, step, 1, part.index])
        clip, labels = self._changed(rows, rng), self.targets[rows]
        if self.mirrors is not None and rng.random() < 0.5:
            clip, labels = clip.flip(-1), self.mirrors[labels]
        targets = torch.from_numpy(labels).to(self.device)
        scores = self.model(clip).float()
        accuracy = (scores.argmax(-1) == targets).float().mean()
        loss = F.cross_entropy(scores, targets, label_smoothing=SMOOTHING)
        return loss * part.weight(count), {"accuracy": float(accuracy)}

    def _changed(self, rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        """The clips of a batch, cropped and tinted: clip_BCTHW in [0, 1]."""
        whole = self.train.frames_NTHWC.shape[2]
        side = int(rng.integers(int(LEAST_CROP * whole), whole + 1))
        y, x = rng.integers(whole - side + 1, size=2)
        length = self.train.frames_NTHWC.shape[1]
        chosen = np.linspace(0, length - 1, self.model.config.num_frames).round().astype(int)
        frames = self.train.frames_NTHWC[rows[:, None], chosen, y : y + side, x : x + side]
        gains = rng.uniform(1 - TINT, 1 + TINT, (len(rows), 3, 1, 1, 1)).astype(np.float32)
        clip = to_clip(frames, self.device) * torch.from_numpy(gains).to(self.device)
        return clip.clamp(0, 1)

    def validate(self) -> dict[str, float]:
        """The share of all validation clips whose action is recognised."""
        return {"accuracy": self.model.accuracy(self.val.frames_NTHWC, self.val.actions)}


def mirrored(actions: Sequence[str]) -> NDArray[np.int64] | None:
    """For each action the index of its mirror image, if `left` and `right` are actions. None for
    other actions, whose mirror images have no known name."""
    if not {"left", "right"} <= set(actions):
        return None
    swapped = {"left": "right", "right": "left"}
    return np.array([actions.index(swapped.get(action, action)) for action in actions])


def train_classifier(
    config: ClassifierConfig,
    train_config: TrainConfig,
    run_folder: Path,
    train: ClipSet,
    val: ClipSet,
    device: str = "cpu",
) -> Iterator[TrainStep]:
    """Trains, or resumes, the run in `run_folder`; writes the averaged model to its model/.

    Raises ValueError if a validation clip has an action that is not the classifier's.
    """
    check_actions(config.actions, val.actions)
    accelerator = new_accelerator(device, train_config.accumulate)
    torch.manual_seed(train_config.seed)
    model = ActionClassifier(config).to(accelerator.device)
    task = ClassifierTask(
        model, train, val, batch_size=train_config.batch_size, seed=train_config.seed
    )
    trainer = Trainer(task, train_config, run_folder, accelerator)
    step = None
    for step in trainer.run():
        yield step
    found = {} if step is None else {"val_accuracy": f"{step.metrics['val_accuracy']:.4f}"}
    trainer.save_model("classifier", config, dtype=None, metadata=found)
