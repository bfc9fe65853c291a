"""Muon: steps along momentum matrices that are made orthogonal. Source: Keller Jordan, 2024.

torch.optim.Muon accepts 2D matrices only and computes in bfloat16, which is slow on processors
without bfloat16 units. This one also accepts convolution kernels, as (out, all other) matrices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NUM_ITERATIONS = 5


def orthogonal(matrix_OI: Tensor, dtype: torch.dtype) -> Tensor:
    """The matrix with its singular values moved towards 1 (to between 0.7 and 1.2)."""
    a, b, c = NEWTON_SCHULZ
    is_tall = matrix_OI.shape[0] > matrix_OI.shape[1]
    x = matrix_OI.to(dtype)
    x = x.T if is_tall else x
    x = x / x.norm().clamp(min=1e-7)
    for _ in range(NUM_ITERATIONS):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if is_tall else x


class Muon(torch.optim.Optimizer):
    """Steps are as large as AdamW's (0.2 root mean square), so learning rates are comparable."""

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float,
        weight_decay: float,
        momentum: float = 0.95,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dtype = dtype
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        assert closure is None
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, group)

    def _update(self, p: Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        assert p.grad is not None
        state["momentum"].lerp_(p.grad, 1 - group["momentum"])
        ahead = p.grad.lerp(state["momentum"], group["momentum"]).flatten(1)
        rate = group["lr"] * 0.2 * math.sqrt(max(ahead.shape))
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(self._direction(ahead).view(p.shape), alpha=-rate)

    def _direction(self, ahead_OI: Tensor) -> Tensor:
        """The orthogonal matrix. A sharded matrix is gathered, since all of it is needed."""
        if not isinstance(ahead_OI, DTensor):
            return orthogonal(ahead_OI, self.dtype)
        whole = orthogonal(ahead_OI.full_tensor(), self.dtype)
        # Every process has computed the same and keeps its own shard, so nothing is sent.
        return distribute_tensor(
            whole, ahead_OI.device_mesh, ahead_OI.placements, src_data_rank=None
        )
