"""Jobs: what they say and where.

A job is a row of int64, addresses and sizes in the places named here. "Numbers" are bfloat16 or
float32, as numbers.py has it for the processor. Rows of inputs and outputs have a multiple of 64
numbers; what is past their own size is zero.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PRODUCT, PRODUCT_INT8, PRODUCT_INT4, QUANTIZE, LAYER_NORM, RMS_NORM, GATE = range(7)
ATTENTION, GUIDE, DRAW = range(7, 10)
"""Kinds of work."""
KIND, NUM_PIECES, INPUT, OUTPUT, NUM_ROWS = range(5)
"""Places in a job. After them those of products and of work on single rows, of attention:"""
ROW_SIZE, WEIGHT, BIAS, INPUT_SCALE, SCALE, NUM_OUTPUTS, THEN, CORRECTION = range(5, 13)
"""ROW_SIZE is the numbers of a row of inputs, CORRECTION what sums of whole numbers begin with,"""
OUTPUT_SIZE: Final = NUM_OUTPUTS
"""and this is those from one row of outputs to the next;"""
NUM_HEADS, HEAD_WIDTH, NUM_PAST, KEY, VALUE, KEY_OF_BATCH, KEY_OF_HEAD = range(5, 12)
COSINE, SINE, TURN_OF_KEYS, TURN_OF_BATCH, TURN_OF_HEAD, REACH = range(12, 18)
"""COSINE is 0 where nothing is turned, REACH where new positions see all there is; else it says how
many keys each of them sees, none fewer than the one before it;"""
INPUT_STEP, SEEDS, SETTINGS, TOP_K = range(6, 10)
"""of guidance and drawing, where ROW_SIZE is the tokens there are and SETTINGS 1 / temperature
(0 for temperature 0), top-p and the strength of guidance."""
NEXT, DONE, JOB_SIZE = 24, 32, 40
"""Pieces that were taken and done: each in a line of the cache for itself."""
ROUND, ACTIVATE, ADD = range(3)
"""What THEN becomes of a product's sums: numbers; GELU of them; or they are added to float32."""
ROWS: Final = 16
"""Rows that are worked on at once."""
PIECE: Final = 64
"""Outputs of a piece of a product."""
LEVELS: Final = (-127, -96, -75, -58, -44, -31, -18, -6, 6, 18, 31, 44, 58, 75, 96, 127)
"""What four bits of a weight stand for, as int8: Lloyd's and Max's levels, which lose least of
numbers that are spread normally."""
LINE: Final = 64
"""Bytes of a line of the cache."""
COMPILED: Final[dict[str, Any]] = {
    "nogil": True,
    "error_model": "numpy",  # no test of divisors: it would keep loops from being vectors
    "fastmath": {"nsz", "nnan"},
}
"""How numba compiles what works on jobs. LLVM may not choose how results are rounded: what it just
compiled and what numba keeps of that would differ, and a seed give two clips."""


def new_job(kind: int) -> NDArray[np.int64]:
    """A job of which the rest is still to be said."""
    job = np.zeros(JOB_SIZE, np.int64)
    job[KIND] = kind
    return job


def padded(size: int) -> int:
    """The next size that can be cut into pieces."""
    return -(-size // PIECE) * PIECE
