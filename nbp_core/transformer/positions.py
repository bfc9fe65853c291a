"""Position inputs of the transformer: grid embeddings of elastic models, rotary tables, aims.

Input: places (raster indices in the grid, negative in the prefix). Output: embeddings to add to
the token embeddings, and rotary tables for queries and keys. Shapes: L positions, D width.
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
"""Places of the grid per unit of an aim's weight: an optimiser step is small beside a place."""


@dataclass(frozen=True)
class Targets:
    """The places that positions predict, as Aim needs them."""

    angles_LE: Tensor
    """Rotary angles of the places."""
    where_L3: Tensor
    """(y, x, 1) in the frame, from -1 to 1 around its middle; zeros in the prefix."""
    steps_2E: Tensor
    """Rotary angles of AIM_SCALE places down, and of as many to the right."""

    def at(self, positions: Positions) -> Targets:
        """The rows of some positions."""
        return Targets(self.angles_LE[positions], self.where_L3[positions], self.steps_2E)


@dataclass(frozen=True)
class PositionInputs:
    """The position inputs of a sequence: embeddings to add (L, D) and rotary tables."""

    added_LD: Tensor
    rotation: Rotation | None
    targets: Targets | None = None

    def at(self, positions: Positions) -> PositionInputs:
        """The rows of some positions."""
        rotation = None if self.rotation is None else self.rotation.at(positions)
        targets = None if self.targets is None else self.targets.at(positions)
        return PositionInputs(self.added_LD[positions], rotation, targets)


class GridEmbedding(nn.Module):
    """The embeddings that an elastic model adds: place, predicted place and block shape.

    The last row of the place tables is for the prefix. Latent frames beyond the grid use the rows
    of the grid's last frame.
    """

    def __init__(self, grid: Size3, width: int) -> None:
        super().__init__()
        num_places = math.prod(grid)
        self.grid = grid
        self.place = nn.Embedding(num_places + 1, width)
        self.target = nn.Embedding(num_places + 1, width)
        self.shape = nn.ModuleList([nn.Embedding(side + 1, width) for side in grid])

    def forward(self, place_L: Tensor, target_L: Tensor, block_shape: Size3) -> Tensor:
        """Places and target places (NO_TOKEN in the prefix) -> embeddings (L, D)."""
        out: Tensor = self.place(self._rows(place_L)) + self.target(self._rows(target_L))
        for table, side in zip(self.shape, block_shape, strict=True):
            out = out + cast(nn.Embedding, table).weight[side]
        return out

    def _rows(self, place_L: Tensor) -> Tensor:
        t, h, w = self.grid
        beyond_L = (place_L // (h * w) - (t - 1)).clamp(min=0)
        return (place_L - beyond_L * h * w).where(place_L >= 0, t * h * w)


def rotary_angles(place_L: Tensor, grid: Size3, head_width: int, shift: int = 0) -> Tensor:
    """Rotary angles (L, head_width) of places over (t, h, w); the prefix is not rotated.

    A quarter of the channel pairs rotate with time, three eighths each with height and width. The
    angles of the first half of the channels are negated, as Rotation requires. `shift` is added to
    the time of all latent frames but the first.
    """
    _, h, w = grid
    time_L = place_L // (h * w)
    time_L = time_L + shift * (time_L > 0)
    places_3L = torch.stack([time_L, place_L // w % h, place_L % w]).float()
    angles = [
        places[:, None] * _frequencies(share).to(places.device)
        for places, share in zip(places_3L, _shares(head_width // 2), strict=True)
    ]
    return _both_halves(torch.cat(angles, dim=1) * (place_L >= 0).unsqueeze(-1))


def _both_halves(angles_XP: Tensor) -> Tensor:
    """Angles of channel pairs (X, E / 2) -> angles of channels (X, E)."""
    return torch.cat([-angles_XP, angles_XP], dim=1)


def _shares(pairs: int) -> tuple[int, int, int]:
    """Numbers of channel pairs that rotate with time, height and width."""
    return pairs // 4, pairs * 3 // 8, pairs * 3 // 8


def _frequencies(count: int) -> Tensor:
    return torch.logspace(math.log2(math.pi / 2), -4, count, base=2.0)


def turned_later(keys_XE: Tensor, num_frames: int) -> Tensor:
    """Rotated keys (..., E) -> the same keys as if their places were num_frames later in time."""
    time = _shares(keys_XE.shape[-1] // 2)[0]
    still = keys_XE.shape[-1] // 2 - time
    angles_P = F.pad(num_frames * _frequencies(time), (0, still)).to(keys_XE.device)
    rotation = _rotation(_both_halves(angles_P[None])[0], torch.float32)
    keys = keys_XE.float()
    swapped = keys.roll(keys.shape[-1] // 2, -1)
    return (keys * rotation.cos + swapped * rotation.sin).to(keys_XE.dtype)


def rotation_of(target_LE: Tensor, place_LE: Tensor, dtype: torch.dtype) -> Rotation:
    """Rotary tables from rotary_angles.

    Queries rotate with the place that they predict, keys with their own place. "The same place one
    frame earlier" is then the same offset for every block shape.
    """
    return _rotation(torch.stack([target_LE, place_LE])[:, None, None], dtype)


def _rotation(angles: Tensor, dtype: torch.dtype) -> Rotation:
    return Rotation(angles.cos().to(dtype), angles.sin().to(dtype))


def targets_of(angles_LE: Tensor, target_L: Tensor, grid: Size3) -> Targets:
    """The input of Aim for a sequence whose target places have these rotary angles."""
    _, h, w = grid
    place_L = target_L.clamp(min=0) % (h * w)
    middle_y, middle_x = (h - 1) / 2, (w - 1) / 2
    y_L, x_L = (place_L // w - middle_y) / (h / 2), (place_L % w - middle_x) / (w / 2)
    where_L3 = torch.stack([y_L, x_L, torch.ones_like(x_L)], -1) * (target_L >= 0).unsqueeze(-1)
    time, height, width = _shares(angles_LE.shape[1] // 2)
    down = F.pad(_frequencies(height), (time, width))
    right = F.pad(_frequencies(width), (time + height, 0))
    steps_2E = AIM_SCALE * _both_halves(torch.stack([down, right])).to(angles_LE.device)
    return Targets(angles_LE, where_L3, steps_2E)


class Aim(nn.Module):
    """Moves the rotary place of a layer's queries by an affine map per condition and head.

    When the camera moves, the content of a place was beside it one frame earlier. The learned map
    lets a query attend there. Without it, models need far longer to learn that some actions shift
    the picture and others do not (docs/decisions/0010-aimed-queries.md).
    """

    def __init__(self, num_conditions: int, num_heads: int) -> None:
        super().__init__()
        self.maps = nn.Parameter(torch.empty(num_conditions, num_heads, 2, 3))
        nn.init.zeros_(self.maps)

    def forward(self, targets: Targets, rotation: Rotation, condition_BL: Tensor) -> Rotation:
        """The layer's rotary tables (2, B, K, L, E): moved for queries, unchanged for keys."""
        return aimed(self.maps[None], targets, rotation, condition_BL)[0]


def aimed(
    maps_NCK23: Tensor, targets: Targets, rotation: Rotation, condition_BL: Tensor
) -> list[Rotation]:
    """The rotary tables of N layers with these maps, computed together.

    maps_NCK23: the maps of N layers, C conditions and K heads. condition_BL may be (B, 1), one
    condition for all positions. A decode step's tensors are so small that the number of calls
    determines the time.
    """
    if condition_BL.shape[1] == 1:
        # Angles for each of the three numbers (y, x, 1) of a place in its frame.
        maps_NBK23 = maps_NCK23[:, condition_BL[:, 0]].float()
        turned_NBKLE = targets.where_L3 @ (maps_NBK23.transpose(-1, -2) @ targets.steps_2E)
    else:
        maps_NBKL23 = maps_NCK23[:, condition_BL].float().transpose(2, 3)
        moved_NBKL2 = (maps_NBKL23 * targets.where_L3[:, None]).sum(-1)
        turned_NBKLE = moved_NBKL2 @ targets.steps_2E
    angles_NBKLE = targets.angles_LE + turned_NBKLE
    queries = _rotation(angles_NBKLE, rotation.cos.dtype)
    cos, sin = (
        torch.stack([query, both[1].expand_as(query)], dim=1).unbind()
        for query, both in ((queries.cos, rotation.cos), (queries.sin, rotation.sin))
    )
    return [Rotation(*pair) for pair in zip(cos, sin, strict=True)]
