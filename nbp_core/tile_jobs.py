"""Jobs that are done in matrix tiles: what they say and where, and a thread's memory for them.

A job is a list of int64, addresses and sizes in the places named here.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from nbp_core.tiles import ROW_BYTES, ROWS, TILE_BYTES, store_tile, tile_config, zero_tile

PRODUCT, PRODUCT_INT8, QUANTIZE, ATTENTION = range(4)
"""Kinds of work."""
KIND, INPUT, OUTPUT, NUM_ROWS = range(4)
"""Places in a job, and after them those of products and of attention."""
ROW_SIZE, WEIGHT, BIAS, NUM_OUTPUTS, IS_GELU_NEXT, INPUT_SCALE, SCALE = range(4, 11)
NUM_HEADS, HEAD_WIDTH, NUM_KEYS, KEY, VALUE = range(4, 9)
KEY_OF_BATCH, KEY_OF_HEAD, QUERY_OF_BATCH, QUERY_OF_HEAD, QUERY_OF_ROW = range(9, 14)
SCRATCH, SCRATCH_SIZE, NUM_PIECES, JOB_SIZE = range(14, 18)
PIECE: Final = 4 * ROWS
"""Outputs of a piece of a product."""
AHEAD: Final = TILE_BYTES
"""Bytes that a stream is asked for before they are read."""
CONFIGS: Final = np.stack([tile_config([n] * 5 + [ROWS] * 3) for n in range(1, ROWS + 1)])
"""For each number of rows: sums are in tiles 0 to 3, activations in 4, weights in 5 to 7."""
WHOLE: Final = tile_config([ROWS] * 8)

SUMS: Final = 4 * TILE_BYTES
"""Places in a thread's scratch, after a piece's sums: the sums of attention's weights,"""
QUERIES: Final = SUMS + TILE_BYTES
"""turned queries,"""
TURNED: Final = QUERIES + 4 * TILE_BYTES
"""turned values,"""
STAGE: Final = TURNED + 4 * TILE_BYTES
"""words to be turned or keys past the end,"""
WEIGHTS: Final = STAGE + 16 * TILE_BYTES
"""weights, and after them scores."""
COMPILED: Final[dict[str, Any]] = {
    "nogil": True,
    "error_model": "numpy",  # no test of divisors: it would keep loops from being vectors
    "fastmath": {"contract", "reassoc", "nsz", "arcp", "nnan"},
}
"""How numba compiles what works on jobs."""


def new_job(kind: int) -> NDArray[np.int64]:
    """A job of which the rest is still to be said."""
    job = np.zeros(JOB_SIZE, np.int64)
    job[KIND] = kind
    return job


def tile_order(weight_OI: Tensor) -> Tensor:
    """A matrix as products read it: tiles of 16 outputs and 64 bytes of inputs, those of the same
    outputs one after the other, and in a tile 4 bytes of inputs of each output side by side."""
    inputs = 4 // weight_OI.element_size()
    num_outputs, num_inputs = weight_OI.shape
    tiles = weight_OI.view(num_outputs // ROWS, ROWS, num_inputs // (16 * inputs), 16, inputs)
    return tiles.permute(0, 2, 3, 1, 4).contiguous()


@njit(**COMPILED)
def clear_sums():
    """Tiles 0 to 3."""
    zero_tile(0)
    zero_tile(1)
    zero_tile(2)
    zero_tile(3)


@njit(**COMPILED)
def store_sums(scratch):
    """Tiles 0 to 3 side by side, to the start of a thread's scratch."""
    store_tile(0, scratch, 4 * PIECE)
    store_tile(1, scratch + ROW_BYTES, 4 * PIECE)
    store_tile(2, scratch + 2 * ROW_BYTES, 4 * PIECE)
    store_tile(3, scratch + 3 * ROW_BYTES, 4 * PIECE)


@njit(**COMPILED)
def scores_at(num_keys):
    """Place of the scores, after the weights of so many keys."""
    return WEIGHTS + (num_keys + 31) // 32 * TILE_BYTES


def scratch_bytes(num_keys: int) -> int:
    """Memory that a thread needs of its own to attend to so many keys, or for any product."""
    tiles = -(-num_keys // 32) + -(-num_keys // PIECE) * 4
    return WEIGHTS + tiles * TILE_BYTES
