"""PatchGAN: a critic that learns to distinguish frames from their reconstructions, by patches.

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
"""Channels of the layers, each of which halves the side. A score depends on 30 x 30 pixels."""
BETAS = (0.5, 0.9)
NORM_GROUPS = 32


def patch_critic() -> nn.Sequential:
    """Pictures (N, 3, H, W) in [-1, 1] -> scores (N, 1, H / 8, W / 8); higher is more real."""
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
    """The network, its optimiser, and the losses since its last step."""

    def __init__(self, lr: float, device: torch.device) -> None:
        self.network = patch_critic().to(device)
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=lr, betas=BETAS)
        self._losses: list[Tensor] = []

    def loss(self, output_BCTHW: Tensor) -> Tensor:
        """The tokenizer's loss: minus the critic's mean score of its reconstructions."""
        self.network.requires_grad_(False)
        loss = -self._scores(output_BCTHW).mean()
        self.network.requires_grad_(True)
        return loss

    def study(self, output_BCTHW: Tensor, clip_BCTHW: Tensor) -> None:
        """Adds the gradient of the critic's hinge loss on reconstructions and clips."""
        # Part of the tokenizer's forward pass, but without a gradient to the tokenizer.
        real, false = self._scores(clip_BCTHW), self._scores(output_BCTHW.detach())
        loss = (F.relu(1 - real).mean() + F.relu(1 + false).mean()) / 2
        loss.backward()  # type: ignore[no-untyped-call]
        self._losses.append(loss.detach())

    def step(self, accelerator: Accelerator) -> dict[str, float]:
        """Makes a step with the gradients since the last one, averaged over processes.

        Returns the loss to log; nothing without gradients.
        """
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
