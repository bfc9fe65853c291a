"""One transformer layer: pre-norm attention and MLP; and the two kinds of norm.

Shapes: B batch, L sequence, D width.
"""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbp_core.config.models import TransformerConfig
from nbp_core.transformer.attention import Attention, KVCache, Mask, Record
from nbp_core.transformer.positions import Aim, PositionInputs


class RMSNorm(nn.RMSNorm):
    """torch's RMSNorm. Decoding in float32 on a CPU takes four PyTorch calls instead of nine."""

    least: Tensor
    nothing: Tensor

    def __init__(self, width: int, eps: float) -> None:
        super().__init__(width, eps)
        self.scale = math.sqrt(width)
        self.register_buffer("least", torch.tensor(math.sqrt(width * eps)), persistent=False)
        self.register_buffer("nothing", torch.tensor(0.0), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda or x.dtype != torch.float32 or torch.is_grad_enabled():
            return super().forward(x)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        unit = torch.addcdiv(self.nothing, x, torch.hypot(length, self.least), value=self.scale)
        return unit.mul_(self.weight)


def norm_of(config: TransformerConfig) -> nn.Module:
    """A norm layer of the kind that the config names."""
    return RMSNorm(config.width, 1e-5) if config.rms_norm else nn.LayerNorm(config.width)


class SwiGLU(nn.Module):
    """(silu(gate x) * up x) down."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_up = nn.Linear(width, 2 * hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        out: Tensor = self.down(F.silu(gate) * up)
        return out


def _mlp(config: TransformerConfig) -> nn.Module:
    if config.swiglu:
        return SwiGLU(config.width, config.hidden_width)
    hidden = config.hidden_width
    return nn.Sequential(
        nn.Linear(config.width, hidden), nn.GELU(), nn.Linear(hidden, config.width)
    )


class Layer(nn.Module):
    """Pre-norm attention and MLP, each with a residual connection."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.norm_1 = norm_of(config)
        self.attention = Attention(config.width, config.num_heads, config.dropout)
        self.aim = Aim(config.num_conditions, config.num_heads) if config.aimed else None
        self.norm_2 = norm_of(config)
        self.mlp = _mlp(config)
        self.dropout = nn.Dropout(config.dropout)

    def scale_down(self, factor: float) -> None:
        """Scales down the initial output projections, so that the layer adds little at first."""
        last = self.mlp.down if isinstance(self.mlp, SwiGLU) else cast(nn.Sequential, self.mlp)[-1]
        for linear in (self.attention.proj, cast(nn.Linear, last)):
            nn.init.normal_(linear.weight, std=0.02 * factor)

    def forward(
        self,
        x_BLD: Tensor,
        mask: Mask | None,
        at: PositionInputs,
        condition_BL: Tensor | None,
        cache: KVCache | None,
        layer: int,
        record: Record | None = None,
    ) -> Tensor:
        rotation = at.rotation
        if self.aim is not None and at.targets is not None and condition_BL is not None:
            rotation = self.aim(at.targets, rotation, condition_BL)
        seen_BLD = self.attention(self.norm_1(x_BLD), mask, rotation, cache, layer, record)
        x_BLD = x_BLD + seen_BLD
        out: Tensor = x_BLD + self.dropout(self.mlp(self.norm_2(x_BLD)))
        return out
