"""PatchGAN: a critic that learns to tell frames from their reconstructions, patch by patch.

Source: Isola et al., 2017 (the network), with the hinge loss of Lim and Ye, 2017, as the paper's
tokenizer and its forerunners use them. Shapes: B batch, C colour, T H W pixels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from einops import rearrange
from torch import Tensor, nn

WIDTHS = (64, 128, 256)
"""Channels; the side is halved by each. A score sees 30 x 30 pixels."""
BETAS = (0.5, 0.9)
NORM_GROUPS = 32


def patch_critic() -> nn.Sequential:
    """Pictures -> a score for every 8 x 8 pixels; high is real."""
    layers: list[nn.Module] = []
    width = 3
    for number, cout in enumerate(WIDTHS):
        layers.append(nn.Conv2d(width, cout, 4, 2, 1))
        if number:
            layers.append(nn.GroupNorm(NORM_GROUPS, cout))
        layers.append(nn.LeakyReLU(0.2))
        width = cout
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 3, 1, 1))


class Critic:
    """The network, its optimiser, and what it has yet to learn from this step."""

    def __init__(self, lr: float, device: torch.device) -> None:
        self.network = patch_critic().to(device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=lr, betas=BETAS)
        self._losses: list[Tensor] = []

    def loss(self, output_BCTHW: Tensor) -> Tensor:
        """What the tokenizer pays for reconstructions that are seen through."""
        self.network.requires_grad_(False)
        loss = -self._scores(output_BCTHW).mean()
        self.network.requires_grad_(True)
        return loss

    def study(self, output_BCTHW: Tensor, clip_BCTHW: Tensor) -> None:
        """Keeps the gradient of telling these two apart, for the next step of the critic."""
        # Inside the tokenizer's own forward pass, but none of its gradient.
        real, false = self._scores(clip_BCTHW), self._scores(output_BCTHW.detach())
        loss = (F.relu(1 - real).mean() + F.relu(1 + false).mean()) / 2
        loss.backward()  # type: ignore[no-untyped-call]
        self._losses.append(loss.detach())

    def step(self, accelerator: Accelerator) -> dict[str, float]:
        """Learns from what it studied since the last step, everywhere; nothing if it did not."""
        if not self._losses:
            return {}
        loss = torch.stack(self._losses).mean()
        for parameter in self.network.parameters():
            if parameter.grad is not None:
                parameter.grad /= len(self._losses)
                # Too small to be wrapped by accelerate: its gradients are averaged here.
                parameter.grad = accelerator.reduce(parameter.grad, "mean")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._losses.clear()
        return {"critic": float(accelerator.reduce(loss, "mean"))}

    def state(self) -> dict[str, Any]:
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _scores(self, clip_BCTHW: Tensor) -> Tensor:
        pictures = rearrange(clip_BCTHW, "b c t h w -> (b t) c h w")
        scores: Tensor = self.network(2 * pictures.float() - 1)
        return scores.float()
