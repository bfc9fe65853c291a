"""Jobs: the records that kernels read.

A job is a row of int64: addresses and sizes at the indices named here. "Numbers" are activations,
bfloat16 or float32 by numbers.py. Rows of inputs and outputs are padded with zeros to a multiple of
64 numbers.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

PRODUCT, PRODUCT_INT8, PRODUCT_INT4, QUANTIZE, LAYER_NORM, RMS_NORM, GATE = range(7)
ATTENTION, GUIDE, DRAW = range(7, 10)
"""Kinds of jobs."""
KIND, NUM_PIECES, INPUT, OUTPUT, NUM_ROWS = range(5)
"""Indices that all jobs use. The same indices after them differ by kind. Products and rows:"""
ROW_SIZE, WEIGHT, BIAS, INPUT_SCALE, SCALE, NUM_OUTPUTS, THEN, CORRECTION = range(5, 13)
"""ROW_SIZE: numbers of an input row; CORRECTION: address of the start of quantised sums."""
OUTPUT_SIZE: Final = NUM_OUTPUTS
"""Numbers from one output row to the next. Attention:"""
NUM_HEADS, HEAD_WIDTH, NUM_PAST, KEY, VALUE, KEY_OF_BATCH, KEY_OF_HEAD = range(5, 12)
COSINE, SINE, TURN_OF_KEYS, TURN_OF_BATCH, TURN_OF_HEAD, REACH = range(12, 18)
"""COSINE is 0 without rotary positions. REACH is 0 if new positions see all keys, else the address
of the number of keys that each sees, which never decreases. Guidance and sampling:"""
INPUT_STEP, SEEDS, SETTINGS, TOP_K = range(6, 10)
"""ROW_SIZE is the vocabulary. SETTINGS: address of 1 / temperature (0 for temperature 0), top-p and
the guidance scale."""
NEXT, DONE, JOB_SIZE = 24, 32, 40
"""Counters of pieces taken and done, each in a cache line of its own."""
ROUND, ACTIVATE, ADD = range(3)
"""Values of THEN, for a product's sums: write them, write GELU of them, or add them to float32."""
ROWS: Final = 16
"""Rows that a kernel computes at once."""
PIECE: Final = 64
"""Outputs per piece of a product."""
LEVELS: Final = (-127, -96, -75, -58, -44, -31, -18, -6, 6, 18, 31, 44, 58, 75, 96, 127)
"""The int8 value of each int4 index: Lloyd-Max levels, optimal for normally distributed weights."""
LINE: Final = 64
"""Bytes of a cache line."""
COMPILED: Final[dict[str, Any]] = {
    "nogil": True,
    "error_model": "numpy",  # no test of divisors: it would keep loops from being vectors
    "fastmath": {"nsz", "nnan"},
}
"""numba's options for kernels. LLVM may not reorder or contract arithmetic. Otherwise fresh and
cached code could round differently, and one seed give two clips."""


def new_job(kind: int) -> NDArray[np.int64]:
    """A job of this kind with all other fields zero."""
    job = np.zeros(JOB_SIZE, np.int64)
    job[KIND] = kind
    return job


def padded(size: int) -> int:
    """Rounds a size up to whole pieces."""
    return -(-size // PIECE) * PIECE
