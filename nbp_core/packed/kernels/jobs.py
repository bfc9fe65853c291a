"""Jobs: the records that kernels read.

A job is one operation of a decode step, such as a matrix product or a norm. A list of jobs is an
array of bytes (jobs, JOB_BYTES). Each row is one job: a record whose fields depend on its kind. All
fields are int64; those that name tensors hold addresses. "Numbers" are activations, bfloat16 or
float32 as numbers.py says. Rows of inputs and outputs are padded with zeros to a multiple of 64
numbers.

Threads share a job by pieces: 64 outputs of a product, one head of one sequence, or one row.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

LINE: Final = 64
"""Bytes of a cache line."""
NEXT_AT, DONE_AT, JOB_BYTES = 3 * LINE, 4 * LINE, 5 * LINE
"""Byte offsets of a job's two counters, each in a cache line of its own, and a job's size."""


def _record(*fields: str) -> np.dtype[np.void]:
    """A record with these fields between those that every job has."""
    names = ["kind", "num_pieces", *fields, "next", "done"]
    offsets = [*range(0, 8 * (len(fields) + 2), 8), NEXT_AT, DONE_AT]
    assert offsets[-3] < NEXT_AT, "the counters have cache lines of their own"
    formats = [np.int64] * len(names)
    return np.dtype(
        {"names": names, "formats": formats, "offsets": offsets, "itemsize": JOB_BYTES}, align=True
    )


JOB: Final = _record()
"""The fields of every job. `next` and `done` count the pieces taken and finished."""
PRODUCT_JOB: Final = _record(
    "input", "output", "num_rows", "row_size", "num_outputs", "weight", "bias", "then",
    "input_scale", "scale", "correction", "num_threads",
)  # fmt: skip
"""A linear layer. row_size: numbers of an input row. input_scale, scale: addresses of the scales of
rows and outputs. correction: address of the start of quantised sums. num_threads: threads that
share the pieces, each of which takes pieces that follow each other in memory."""
ROW_JOB: Final = _record("input", "output", "row_size", "output_size", "weight", "bias", "scale")
"""Norms, SwiGLU gates and quantisation. row_size, output_size: numbers of an input and an output
row. scale: address of the scales that quantisation writes."""
ATTENTION_JOB: Final = _record(
    "input", "output", "num_rows", "num_heads", "head_width", "num_past", "key", "value",
    "batch_stride", "head_stride", "cosine", "sine", "table_batch_stride", "table_head_stride",
    "table_key_stride", "reach",
)  # fmt: skip
"""Attention. Strides are bytes: of the KV cache, then of the rotary tables (table_key_stride leads
from a query's entry to that of its key). cosine is 0 without rotary positions. reach is 0 if new
positions see all keys, else the address of the number of keys that each sees, which never
decreases."""
DRAW_JOB: Final = _record("input", "output", "vocab", "input_step", "seeds", "settings", "top_k")
"""Guidance and sampling. input_step: numbers from one row of logits to the next. settings: address
of 1 / temperature (0 for temperature 0), top-p and the guidance scale, in float64."""

PRODUCT, PRODUCT_INT8, PRODUCT_INT4, QUANTIZE, LAYER_NORM, RMS_NORM, GATE = range(7)
ATTENTION, GUIDE, DRAW = range(7, 10)
"""Kinds of jobs."""
RECORDS: Final = {
    **dict.fromkeys((PRODUCT, PRODUCT_INT8, PRODUCT_INT4), PRODUCT_JOB),
    **dict.fromkeys((QUANTIZE, LAYER_NORM, RMS_NORM, GATE), ROW_JOB),
    ATTENTION: ATTENTION_JOB,
    **dict.fromkeys((GUIDE, DRAW), DRAW_JOB),
}
"""The record of each kind."""
ROUND, ACTIVATE, ADD = range(3)
"""Values of `then`: write a product's sums, write GELU of them, or add them to float32 outputs."""
ROWS: Final = 16
"""Rows that a kernel computes at once."""
PIECE: Final = 64
"""Outputs per piece of a product."""
ROW: Final = 4 * PIECE
"""Bytes of a row of a piece's sums."""
LEVELS: Final = (-127, -96, -75, -58, -44, -31, -18, -6, 6, 18, 31, 44, 58, 75, 96, 127)
"""The int8 value of each int4 index: Lloyd-Max levels, optimal for normally distributed weights."""
COMPILED: Final[dict[str, Any]] = {
    "nogil": True,
    "error_model": "numpy",  # no test of divisors: it would keep loops from being vectors
    "fastmath": {"nsz", "nnan"},
}
"""numba's options for kernels. LLVM may not reorder or contract arithmetic. Otherwise fresh and
cached code could round differently, and one seed give two clips."""

Jobs = NDArray[np.uint8]


def new_job(kind: int, **fields: int) -> Jobs:
    """A list of one job; the fields that are not named are zero. ValueError for an unknown name."""
    job = np.zeros((1, JOB_BYTES), np.uint8)
    record = job.view(RECORDS[kind])[0, 0]
    record["kind"] = kind
    for name, value in fields.items():
        record[name] = value
    return job


def padded(size: int) -> int:
    """Rounds a size up to whole pieces."""
    return -(-size // PIECE) * PIECE
