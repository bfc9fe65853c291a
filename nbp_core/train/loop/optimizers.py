"""The optimisers of a run, and the moving average of its weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from nbp_core.device import has_fast_bfloat16
from nbp_core.train.loop.muon import Muon

FLATTEST = 8
"""Muon trains a matrix if its longer side is at most this many times its shorter side."""


def make_optimizers(
    model: nn.Module,
    lr: float,
    muon_lr: float | None,
    weight_decay: float,
    betas: tuple[float, float],
) -> list[torch.optim.Optimizer]:
    """AdamW, and optionally Muon for the matrices inside the network (not embeddings or heads)."""
    matrices: list[nn.Parameter] = []
    if muon_lr is not None:
        inner = [m for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv3d))]
        weights = [cast(nn.Parameter, layer.weight) for layer in inner]
        matrices = [w for w in weights if max(w.shape[:2]) <= FLATTEST * min(w.shape[:2])]
    chosen = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in chosen]
    groups = [
        {"params": [p for p in rest if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=lr, betas=betas, fused=True)
    ]
    if matrices and muon_lr is not None:
        dtype = torch.bfloat16 if has_fast_bfloat16(matrices[0].device) else torch.float32
        optimizers.append(Muon(matrices, muon_lr, weight_decay, dtype=dtype))
    return optimizers


class AveragedWeights:
    """An exponential moving average of a model's parameters, each sharded like its parameter.

    Create it after the model was distributed over processes, which replaces its parameters.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.parameters = list(model.parameters())
        self.averages = [value.clone() for value in self._values()]
        self.decay = decay
        self.count = 0

    @torch.no_grad()
    def update(self) -> None:
        """Adds the current parameters. The decay is smaller at first, so that the first weights do
        not dominate the average of a short run."""
        if self.count == 0:
            torch._foreach_copy_(self.averages, self._values())
        else:
            decay = min(self.decay, (1 + self.count) / (10 + self.count))
            torch._foreach_lerp_(self.averages, self._values(), 1 - decay)
        self.count += 1

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """While this lasts, the model has the averaged weights."""
        current = [value.clone() for value in self._values()]
        self._write(self.averages)
        try:
            yield
        finally:
            self._write(current)

    def take(self, count: int) -> None:
        """Takes the model's current weights as the average of `count` steps."""
        torch._foreach_copy_(self.averages, self._values())
        self.count = count

    @torch.no_grad()
    def _write(self, values: list[Tensor]) -> None:
        torch._foreach_copy_(self._values(), values)

    def _values(self) -> list[Tensor]:
        """The parameters' own memory; for sharded parameters, the local shard."""
        values = [p.detach() for p in self.parameters]
        return [value.to_local() if isinstance(value, DTensor) else value for value in values]
