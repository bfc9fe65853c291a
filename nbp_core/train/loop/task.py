"""What a Trainer trains: a model with its loss, cut into parts that processes share.

Shapes: none; a Task knows them.
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
    """One of `count` parts of a step's batch: what one process computes at once.

    The batch is drawn whole by everyone, from (seed, step), and each takes every count-th of it: so
    a run makes the same steps however many processes share them.
    """

    index: int = 0
    count: int = 1

    @property
    def own(self) -> slice:
        """Which members of a batch are of this part."""
        return slice(self.index, None, self.count)

    def weight(self, total: int) -> float:
        """What turns this part's mean into its share of the mean over a batch of `total`."""
        return len(range(total)[self.own]) * self.count / total


class Task(ABC):
    """What is trained."""

    model: nn.Module

    @abstractmethod
    def loss(self, step: int, progress: float, part: Part) -> tuple[Tensor, dict[str, float]]:
        """Loss of a part of the batch that belongs to this step, and figures to log.

        The mean over all parts is the batch's.
        """

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Figures of the model as it stands."""

    def after_step(self, accelerator: Accelerator) -> dict[str, float]:
        """Called when the model has made its step: what learns beside it does so here."""
        return {}

    def extra_state(self) -> dict[str, Any]:
        """What a checkpoint keeps besides the model: tensors and numbers."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Takes back what extra_state gave."""
        assert not state


def spaced(total: int, count: int) -> np.ndarray:
    """At most `count` of `total` places, evenly spread."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))
