"""BLOCKS: cuts a grid of tokens into blocks. sequences.py turns the blocks into model inputs.

Shapes: B batch, t h w grid, N blocks, S tokens per block. 'Place' is a token's raster index in the
grid. Source: section 3.2 of the paper. This module does not know models.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from nbp_core.config.shapes import Size3, check_sides, format_block_shape

if TYPE_CHECKING:
    from torch import Tensor


def _divides(part: Size3, whole: Size3) -> bool:
    return all(w % p == 0 for p, w in zip(part, whole, strict=True))


def _cut(places_thw: NDArray[np.int64], shape: Size3) -> NDArray[np.int64]:
    """(t, h, w) -> (N, S): blocks in raster order, tokens in raster order inside each block."""
    t, h, w = shape
    return rearrange(places_thw, "(a t) (b h) (c w) -> (a b c) (t h w)", t=t, h=h, w=w)


@dataclass(frozen=True)
class BlockLayout:
    """A grid cut into blocks of equal length.

    A block shape within one latent frame tiles the whole grid. A block shape that spans several
    latent frames tiles all frames but the first; the first frame is cut by `first_frame_shape`.
    Raises ValueError, which names shapes that fit, if the shape does not tile the grid, and
    ValueError for a grid or a shape that is not three whole numbers.
    """

    grid: Size3
    block_shape: Size3

    def __post_init__(self) -> None:
        check_sides("grid", self.grid)
        check_sides("block shape", self.block_shape)
        if not tiles(self.grid, self.block_shape):
            fitting = [s for s in _candidates() if tiles(self.grid, s)]
            raise ValueError(
                f"block shape {format_block_shape(self.block_shape)} does not tile the "
                f"{format_block_shape(self.grid)} grid; these do: "
                + ", ".join(map(format_block_shape, fitting))
            )

    @property
    def block_len(self) -> int:
        """S, the number of tokens per block."""
        return math.prod(self.block_shape)

    @property
    def num_tokens(self) -> int:
        return math.prod(self.grid)

    @property
    def num_blocks(self) -> int:
        """N, the number of blocks in the grid."""
        return self.num_tokens // self.block_len

    @cached_property
    def places_NS(self) -> Tensor:
        """The place of each token in the grid: int64, (N, S), in block order."""
        import torch  # takes a second, and counting blocks and steps does not need it

        return torch.from_numpy(self._places_NS)

    @cached_property
    def _places_NS(self) -> NDArray[np.int64]:
        t, h, w = self.grid
        places_thw = np.arange(self.num_tokens).reshape(t, h, w)
        if self.block_shape[0] == 1:
            return _cut(places_thw, self.block_shape)
        first = _cut(places_thw[:1], first_frame_shape(self.block_shape))
        return np.concatenate([first, _cut(places_thw[1:], self.block_shape)])

    def reach(self, num_blocks: int) -> int:
        """The number of leading places of the grid that hold every token of the first blocks."""
        return int(self._places_NS[:num_blocks].max()) + 1 if num_blocks else 0

    def to_blocks(self, tokens_Bthw: Tensor) -> Tensor:
        """Tokens on the grid -> (B, N, S)."""
        return tokens_Bthw.flatten(1)[:, self.places_NS.to(tokens_Bthw.device)]

    def to_grid(self, tokens_BNS: Tensor) -> Tensor:
        """Inverse of to_blocks: (B, N, S) -> tokens_Bthw."""
        t, h, w = self.grid
        flat = tokens_BNS.new_empty(tokens_BNS.flatten(1).shape)
        flat[:, self.places_NS.flatten().to(tokens_BNS.device)] = tokens_BNS.flatten(1)
        return rearrange(flat, "b (t h w) -> b t h w", t=t, h=h, w=w)


def first_frame_shape(shape: Size3) -> Size3:
    """The shape that cuts the first latent frame if `shape` spans time: same length and width."""
    return 1, shape[0] * shape[1], shape[2]


def tiles(grid: Size3, shape: Size3) -> bool:
    """Whether BlockLayout can cut the grid into blocks of this shape without a remainder."""
    if shape[0] == 1:
        return _divides(shape, grid)
    first, rest = (1, *grid[1:]), (grid[0] - 1, *grid[1:])
    return grid[0] > 1 and _divides(first_frame_shape(shape), first) and _divides(shape, rest)


def _candidates() -> list[Size3]:
    return [
        (1, 1, 1),
        (1, 1, 8),
        (1, 1, 16),
        (1, 2, 16),
        (1, 4, 4),
        (1, 4, 16),
        (1, 16, 16),
        (2, 1, 8),
        (2, 2, 2),
    ]
