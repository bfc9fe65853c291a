"""The attention job: new positions attend to the KV cache and to each other.

A piece of the job is one head of one sequence. It appends its keys and values to the cache, then
computes sixteen queries at a time. Shapes: E head width, L keys.
"""

from __future__ import annotations

from typing import Final

from numba import carray, int64, njit

from nbp_core.packed.kernels.instructions import fused, pointer
from nbp_core.packed.kernels.jobs import ATTENTION_JOB, COMPILED, ROWS
from nbp_core.packed.kernels.numbers import IN_USE, NUMBER, NUMBER_BYTES, read, written

if IN_USE.has_tiles:
    from nbp_core.packed.kernels.amx.attention import attend, attend_bytes
elif IN_USE.has_bfloat16:
    from nbp_core.packed.kernels.simd.bfloat16_attention import attend, attend_bytes
else:
    from nbp_core.packed.kernels.simd.float_attention import attend, attend_bytes

HEAD_WIDTHS: Final = (32, 64, 96, 128)
QUERIES_BYTES: Final = NUMBER_BYTES * ROWS * HEAD_WIDTHS[-1]
"""Bytes of sixteen queries with rotary positions, at the start of a thread's scratch buffer."""


def attention_bytes(num_keys: int) -> int:
    """Bytes of scratch buffer per thread for this many keys."""
    return QUERIES_BYTES + attend_bytes(num_keys)


@njit(**COMPILED)
def attend_head(place, scratch, piece):
    """Computes softmax(q k^T / sqrt(E)) v for the new positions of one head of one sequence, over
    all L keys, or over the first keys that each position may attend to.

    `place` is the address of the job's record. The job's input holds the query, the key and the
    value of each position, in this order.
    """
    job = carray(pointer(place), 1, ATTENTION_JOB)[0]
    num_heads, num_rows = job.num_heads, job.num_rows
    width, num_keys = job.head_width, job.num_past + num_rows
    batch, head = piece // num_heads, piece % num_heads
    cache_offset = batch * job.batch_stride + head * job.head_stride
    row_bytes = NUMBER_BYTES * num_heads * width
    query = job.input + 3 * batch * num_rows * row_bytes + NUMBER_BYTES * head * width
    table_offset = batch * job.table_batch_stride + head * job.table_head_stride
    _append(job, query, table_offset, cache_offset)
    for first in range(0, num_rows, ROWS):
        rows = min(ROWS, num_rows - first)
        for row in range(rows):
            turned = scratch + NUMBER_BYTES * width * row
            position = first + row
            entry = table_offset + NUMBER_BYTES * width * position
            _turn(job, query + 3 * row_bytes * position, turned, entry)
        out = job.output + (batch * num_rows + first) * row_bytes + NUMBER_BYTES * head * width
        key, value, room = job.key + cache_offset, job.value + cache_offset, scratch + QUERIES_BYTES
        num_seen, reach = num_keys, job.reach
        if reach:
            reach += 8 * first
            num_seen = carray(pointer(reach), rows, int64)[rows - 1]
        attend(scratch, rows, key, value, num_seen, reach, width, room, out, row_bytes)


@njit(**COMPILED)
def _append(job, query, table_offset, cache_offset):
    """Appends new keys, with rotary positions, and new values to the cache."""
    num_rows, width = job.num_rows, job.head_width
    vector_bytes = NUMBER_BYTES * job.num_heads * width
    for row in range(num_rows):
        key = query + (3 * row + 1) * vector_bytes
        slot = cache_offset + NUMBER_BYTES * (job.num_past + row) * width
        entry = job.table_key_stride + table_offset + NUMBER_BYTES * row * width
        _turn(job, key, job.key + slot, entry)
        value = carray(pointer(key + vector_bytes), width, NUMBER)
        kept = carray(pointer(job.value + slot), width, NUMBER)
        for i in range(width):
            kept[i] = value[i]


@njit(**COMPILED)
def _turn(job, source, target, entry):
    """Applies the rotary table to one query or key (attention.Rotation) and writes it to target."""
    width = job.head_width
    pairs = width // 2
    x = carray(pointer(source), width, NUMBER)
    out = carray(pointer(target), width, NUMBER)
    if job.cosine == 0:
        for i in range(width):
            out[i] = x[i]
        return
    cos = carray(pointer(job.cosine + entry), width, NUMBER)
    sin = carray(pointer(job.sine + entry), width, NUMBER)
    for i in range(pairs):
        out[i] = written(fused(read(x[i]), read(cos[i]), read(x[pairs + i]) * read(sin[i])))
    for i in range(pairs, width):
        out[i] = written(fused(read(x[i]), read(cos[i]), read(x[i - pairs]) * read(sin[i])))
