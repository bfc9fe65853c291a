"""Jobs that are done in matrix tiles: what they say and where, and a thread's memory for them.

A job is a row of int64, addresses and sizes in the places named here. Rows of inputs and outputs
have a multiple of 64 numbers; what is past their own size is zero.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from nbp_core.tiles import ROW_BYTES, ROWS, TILE_BYTES, store_tile, tile_config, zero_tile

PRODUCT, PRODUCT_INT8, QUANTIZE, LAYER_NORM, RMS_NORM, GATE, ATTENTION, DRAW = range(8)
"""Kinds of work."""
KIND, NUM_PIECES, INPUT, OUTPUT, NUM_ROWS = range(5)
"""Places in a job. After them those of products and of work on single rows, of attention:"""
ROW_SIZE, WEIGHT, BIAS, INPUT_SCALE, SCALE, NUM_OUTPUTS, THEN = range(5, 12)
"""ROW_SIZE is the numbers of a row of inputs,"""
OUTPUT_SIZE: Final = NUM_OUTPUTS
"""and this is those from one row of outputs to the next;"""
NUM_HEADS, HEAD_WIDTH, NUM_PAST, KEY, VALUE, KEY_OF_BATCH, KEY_OF_HEAD = range(5, 12)
COSINE, SINE, TURN_OF_KEYS, TURN_OF_BATCH, TURN_OF_HEAD = range(12, 17)
"""COSINE is 0 where nothing is turned;"""
INPUT_STEP, SEEDS, SETTINGS, TOP_K = range(6, 10)
"""of drawing, where ROW_SIZE is the tokens there are and SETTINGS 1 / temperature and top-p."""
NEXT, DONE, JOB_SIZE = 24, 32, 40
"""Pieces that were taken and done: each in a line of the cache for itself."""
ROUND, ACTIVATE, ADD = range(3)
"""What THEN becomes of a product's sums: bfloat16; GELU of them; or float32, added to what is
there."""
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
ROTATED: Final = STAGE + 16 * TILE_BYTES
"""queries turned to their places,"""
WEIGHTS: Final = ROTATED + 4 * TILE_BYTES
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


def padded(size: int) -> int:
    """The next size that can be cut into pieces."""
    return -(-size // PIECE) * PIECE


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
