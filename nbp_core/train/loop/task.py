"""A Task is a model with its loss and its data, for the Trainer.

A step's batch is cut into parts, which processes share.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from accelerate import Accelerator
from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Part:
    """One of `count` parts of a step's batch, which one process computes at once.

    Every process draws the whole batch from (seed, step), and a part is every count-th member of
    it. So a run makes the same steps with any number of processes.
    """

    index: int = 0
    count: int = 1

    @property
    def own(self) -> slice:
        """Selects the members of a batch that belong to this part."""
        return slice(self.index, None, self.count)

    def weight(self, total: int) -> float:
        """The factor from this part's mean to its share of the mean over a batch of `total`."""
        return len(range(total)[self.own]) * self.count / total


class Task(ABC):
    """A model, its loss and its validation."""

    model: nn.Module

    @abstractmethod
    def loss(self, step: int, progress: float, part: Part) -> tuple[Tensor, dict[str, float]]:
        """(loss of a part of this step's batch, figures to log).

        progress: share of the budget that is spent, 0 to 1. The mean over all parts is the loss of
        the batch.
        """

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Validation figures of the model with its current weights."""

    def after_step(self, accelerator: Accelerator) -> dict[str, float]:
        """Called after each step of the model, for a second network's step; returns its figures."""
        return {}

    def extra_state(self) -> dict[str, Any]:
        """Tensors and numbers that a checkpoint stores besides the model."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Restores the result of extra_state."""
        assert not state


def spaced(total: int, count: int) -> np.ndarray:
    """At most `count` indices below `total`, evenly spread, ascending."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))
