"""Shapes of matrix tiles (AMX), the order of weights in them, and tiles of sums."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from nbp_core.packed.kernels.instructions import store_tile, tile_config, zero_tile
from nbp_core.packed.kernels.jobs import COMPILED, LINE, PIECE, ROWS

TILE_BYTES: Final = ROWS * LINE
CONFIGS: Final = np.stack([tile_config([n] * 5 + [ROWS] * 3) for n in range(1, ROWS + 1)])
"""A tile configuration for each number of rows. Tiles 0 to 3 hold sums, 4 activations, 5 to 7
weights."""
WHOLE: Final = tile_config([ROWS] * 8)


@njit(**COMPILED)
def clear_sums():
    """Sets tiles 0 to 3 to zero."""
    zero_tile(0)
    zero_tile(1)
    zero_tile(2)
    zero_tile(3)


@njit(**COMPILED)
def store_sums(scratch):
    """Writes tiles 0 to 3 side by side to the start of a thread's scratch buffer."""
    store_tile(0, scratch, 4 * PIECE)
    store_tile(1, scratch + LINE, 4 * PIECE)
    store_tile(2, scratch + 2 * LINE, 4 * PIECE)
    store_tile(3, scratch + 3 * LINE, 4 * PIECE)
