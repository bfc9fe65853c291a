"""What a model is told about positions: embeddings of an elastic grid, rotary tables.

Comes in: places (raster indices in the grid, negative in the prefix). Goes out: what is added to
the token embeddings and how queries and keys are turned. Shapes: L positions, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbp_core.config.shapes import Size3
from nbp_core.transformer.attention import Positions, Rotation

AIM_SCALE = 30.0
"""Places for a weight of one: what an optimiser moves in a step is little beside a place."""


@dataclass(frozen=True)
class Targets:
    """The places that positions must predict: their rotary angles (L, E), and where in the frame
    they lie: (y, x, 1) from -1 to 1 around its middle, zeros in the prefix (L, 3). `steps_2E` are
    the angles of AIM_SCALE places down and to the right."""

    angles_LE: Tensor
    where_L3: Tensor
    steps_2E: Tensor

    def at(self, positions: Positions) -> Targets:
        """Those of some positions."""
        return Targets(self.angles_LE[positions], self.where_L3[positions], self.steps_2E)


@dataclass(frozen=True)
class PositionInputs:
    """What is added to a sequence's token embeddings, (L, D), and how its positions are turned."""

    added_LD: Tensor
    rotation: Rotation | None
    targets: Targets | None = None

    def at(self, positions: Positions) -> PositionInputs:
        """Those of some positions."""
        rotation = None if self.rotation is None else self.rotation.at(positions)
        targets = None if self.targets is None else self.targets.at(positions)
        return PositionInputs(self.added_LD[positions], rotation, targets)


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
            out = out + cast(nn.Embedding, table).weight[side]
        return out


def rotary_table(grid: Size3, head_width: int) -> Tensor:
    """Angles (places + 1, head_width) over (t, h, w); the prefix (last row) is not rotated.

    A quarter of the pairs turn with time, three eighths each with height and width. Angles of the
    first half of the channels are negative, as Rotation wants their sines.
    """
    t, h, w = grid
    pairs = head_width // 2
    places = torch.cartesian_prod(torch.arange(t), torch.arange(h), torch.arange(w)).float()
    angles = [
        places[:, axis, None] * _frequencies(share) for axis, share in enumerate(_shares(pairs))
    ]
    half = torch.cat(angles, dim=1)
    return _both_halves(F.pad(half, (0, 0, 0, 1)))


def _both_halves(angles_XP: Tensor) -> Tensor:
    """Angles of the rotary pairs -> (X, E), of their two channels."""
    return torch.cat([-angles_XP, angles_XP], dim=1)


def _shares(pairs: int) -> tuple[int, int, int]:
    """Rotary pairs that turn with time, height and width."""
    return pairs // 4, pairs * 3 // 8, pairs * 3 // 8


def _frequencies(count: int) -> Tensor:
    return torch.logspace(math.log2(math.pi / 2), -4, count, base=2.0)


def rotation_of(table: Tensor, target_L: Tensor, place_L: Tensor, dtype: torch.dtype) -> Rotation:
    """Queries turn with the place they must predict, keys with their own: "the same place one frame
    earlier" is then one and the same offset for every block shape."""
    angles = table[_rows(torch.stack([target_L, place_L]), table)][:, None, None]
    return _rotation(angles, dtype)


def _rows(place_L: Tensor, table: Tensor) -> Tensor:
    """Where the places stand in a rotary table; the prefix has the last row."""
    return place_L.where(place_L >= 0, len(table) - 1)


def _rotation(angles: Tensor, dtype: torch.dtype) -> Rotation:
    return Rotation(angles.cos().to(dtype), angles.sin().to(dtype))


def targets_of(table: Tensor, target_L: Tensor, grid: Size3) -> Targets:
    """What Aim needs to know about a sequence."""
    _, h, w = grid
    place_L = target_L.clamp(min=0) % (h * w)
    middle_y, middle_x = (h - 1) / 2, (w - 1) / 2
    y_L, x_L = (place_L // w - middle_y) / (h / 2), (place_L % w - middle_x) / (w / 2)
    where_L3 = torch.stack([y_L, x_L, torch.ones_like(x_L)], -1) * (target_L >= 0).unsqueeze(-1)
    time, height, width = _shares(table.shape[1] // 2)
    down = F.pad(_frequencies(height), (time, width))
    right = F.pad(_frequencies(width), (time + height, 0))
    steps_2E = AIM_SCALE * _both_halves(torch.stack([down, right])).to(table.device)
    return Targets(table[_rows(target_L, table)], where_L3, steps_2E)


class Aim(nn.Module):
    """Lets the queries of a layer look from a place that is moved as their condition says.

    When the camera moves, what comes to a place was beside it one frame earlier: an affine map of
    the picture, which is learned for each condition and head. Without one, looking a place aside
    for some actions and straight on for others takes far longer to learn.
    """

    def __init__(self, num_conditions: int, num_heads: int) -> None:
        super().__init__()
        self.maps = nn.Parameter(torch.zeros(num_conditions, num_heads, 2, 3))

    def forward(self, targets: Targets, rotation: Rotation, condition_B: Tensor) -> Rotation:
        """The layer's own rotation (2, B, K, L, E): queries aimed, keys as they are."""
        return aimed(self.maps[None], targets, rotation, condition_B)[0]


def aimed(
    maps_NCK23: Tensor, targets: Targets, rotation: Rotation, condition_B: Tensor
) -> list[Rotation]:
    """The rotations of N layers with these maps, as of Aim, in one go.

    A decode step's tensors are so small that calling takes the time.
    """
    # Angles for each of the three numbers that say where in the frame a place lies.
    turns_NBK3E = maps_NCK23[:, condition_B].float().transpose(-1, -2) @ targets.steps_2E
    angles_NBKLE = targets.angles_LE + targets.where_L3 @ turns_NBK3E
    queries = _rotation(angles_NBKLE, rotation.cos.dtype)
    cos, sin = (
        torch.stack([query, both[1].expand_as(query)], dim=1).unbind()
        for query, both in ((queries.cos, rotation.cos), (queries.sin, rotation.sin))
    )
    return [Rotation(*pair) for pair in zip(cos, sin, strict=True)]
