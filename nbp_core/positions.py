"""What a model is told about positions: embeddings of an elastic grid, rotary tables.

Comes in: places (raster indices in the grid, negative in the prefix). Goes out: what is added to
the token embeddings and how queries and keys are turned. Shapes: L positions, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbp_core.attention import Rotation
from nbp_core.config import Size3


@dataclass(frozen=True)
class PositionInputs:
    """What is added to a sequence's token embeddings, (L, D), and how its positions are turned."""

    added_LD: Tensor
    rotation: Rotation | None

    def cut(self, start: int, stop: int) -> PositionInputs:
        """Those of the positions [start, stop)."""
        rotation = None if self.rotation is None else self.rotation.cut(start, stop)
        return PositionInputs(self.added_LD[start:stop], rotation)


class GridEmbedding(nn.Module):
    """What an elastic model adds to its inputs: where a position stands, what place it must
    predict, and the block shape. The last row of the place tables stands for the prefix."""

    def __init__(self, grid: Size3, width: int) -> None:
        super().__init__()
        num_places = math.prod(grid)
        self.place = nn.Embedding(num_places + 1, width)
        self.target = nn.Embedding(num_places + 1, width)
        self.shape = nn.ModuleList([nn.Embedding(side + 1, width) for side in grid])

    def forward(self, place_L: Tensor, target_L: Tensor, block_shape: Size3) -> Tensor:
        """Places (NO_TOKEN in the prefix) -> (L, D)."""
        last = self.place.num_embeddings - 1
        out: Tensor = self.place(place_L.where(place_L >= 0, last))
        out = out + self.target(target_L.where(target_L >= 0, last))
        for table, side in zip(self.shape, block_shape, strict=True):
            out = out + table(torch.tensor(side, device=place_L.device))
        return out


def rotary_table(grid: Size3, head_width: int) -> Tensor:
    """Angles (places + 1, head_width) over (t, h, w); the prefix (last row) is not rotated.

    A quarter of the pairs turn with time, three eighths each with height and width.
    """
    t, h, w = grid
    pairs = head_width // 2
    shares = (pairs // 4, pairs * 3 // 8, pairs * 3 // 8)
    places = torch.cartesian_prod(torch.arange(t), torch.arange(h), torch.arange(w)).float()
    angles = [
        places[:, axis, None] * torch.logspace(math.log2(math.pi / 2), -4, share, base=2.0)
        for axis, share in enumerate(shares)
    ]
    half = torch.cat(angles, dim=1)
    return torch.cat([F.pad(half, (0, 0, 0, 1))] * 2, dim=1)


def rotation_of(table: Tensor, target_L: Tensor, place_L: Tensor, dtype: torch.dtype) -> Rotation:
    """Queries turn with the place they must predict, keys with their own: "the same place one frame
    earlier" is then one and the same offset for every block shape."""
    places_2L = torch.stack([target_L, place_L])
    angles = table[places_2L.where(places_2L >= 0, len(table) - 1)][:, None, None]
    sin = angles.sin()
    sin[..., : sin.shape[-1] // 2].neg_()
    return Rotation(angles.cos().to(dtype), sin.to(dtype))
