"""The attention job: new positions attend to the KV cache and to each other.

A piece of the job is one head of one sequence. It appends its keys and values to the cache, then
computes sixteen queries at a time. Shapes: E head width, L keys.
"""

from __future__ import annotations

from typing import Final

from numba import carray, int64, njit

from nbp_core.packed.kernels.instructions import fused, pointer
from nbp_core.packed.kernels.jobs import (
    COMPILED,
    COSINE,
    HEAD_WIDTH,
    INPUT,
    KEY,
    KEY_OF_BATCH,
    KEY_OF_HEAD,
    NUM_HEADS,
    NUM_PAST,
    NUM_ROWS,
    OUTPUT,
    REACH,
    ROWS,
    SINE,
    TURN_OF_BATCH,
    TURN_OF_HEAD,
    TURN_OF_KEYS,
    VALUE,
)
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
def attend_head(job, scratch, task):
    """Computes softmax(q k^T / sqrt(E)) v for the new positions of one head of one sequence, over
    all L keys or as many as each position sees.

    The input holds query, key and value of a position one after the other.
    """
    num_heads, num_rows = job[NUM_HEADS], job[NUM_ROWS]
    width, num_keys = job[HEAD_WIDTH], job[NUM_PAST] + num_rows
    batch, head = task // num_heads, task % num_heads
    of_head = batch * job[KEY_OF_BATCH] + head * job[KEY_OF_HEAD]
    of_row = NUMBER_BYTES * num_heads * width
    query = job[INPUT] + 3 * batch * num_rows * of_row + NUMBER_BYTES * head * width
    of_turn = batch * job[TURN_OF_BATCH] + head * job[TURN_OF_HEAD]
    _append(job, query, of_turn, of_head)
    for first in range(0, num_rows, ROWS):
        rows = min(ROWS, num_rows - first)
        for row in range(rows):
            turned = scratch + NUMBER_BYTES * width * row
            place = first + row
            _turn(job, query + 3 * of_row * place, turned, of_turn + NUMBER_BYTES * width * place)
        out = job[OUTPUT] + (batch * num_rows + first) * of_row + NUMBER_BYTES * head * width
        key, value, room = job[KEY] + of_head, job[VALUE] + of_head, scratch + QUERIES_BYTES
        num_seen, reach = num_keys, job[REACH]
        if reach:
            reach += 8 * first
            num_seen = carray(pointer(reach), rows, int64)[rows - 1]
        attend(scratch, rows, key, value, num_seen, reach, width, room, out, of_row)


@njit(**COMPILED)
def _append(job, query, of_turn, of_head):
    """Appends new keys, with rotary positions, and new values to the cache."""
    num_rows, width = job[NUM_ROWS], job[HEAD_WIDTH]
    of_kind = NUMBER_BYTES * job[NUM_HEADS] * width
    for row in range(num_rows):
        key = query + (3 * row + 1) * of_kind
        place = of_head + NUMBER_BYTES * (job[NUM_PAST] + row) * width
        _turn(job, key, job[KEY] + place, job[TURN_OF_KEYS] + of_turn + NUMBER_BYTES * row * width)
        value = carray(pointer(key + of_kind), width, NUMBER)
        kept = carray(pointer(job[VALUE] + place), width, NUMBER)
        for i in range(width):
            kept[i] = value[i]


@njit(**COMPILED)
def _turn(job, source, target, of_turn):
    """Applies the rotary table to one query or key (attention.Rotation) and writes it to target."""
    width = job[HEAD_WIDTH]
    pairs = width // 2
    x = carray(pointer(source), width, NUMBER)
    out = carray(pointer(target), width, NUMBER)
    if job[COSINE] == 0:
        for i in range(width):
            out[i] = x[i]
        return
    cos = carray(pointer(job[COSINE] + of_turn), width, NUMBER)
    sin = carray(pointer(job[SINE] + of_turn), width, NUMBER)
    for i in range(pairs):
        out[i] = written(fused(read(x[i]), read(cos[i]), read(x[pairs + i]) * read(sin[i])))
    for i in range(pairs, width):
        out[i] = written(fused(read(x[i]), read(cos[i]), read(x[i - pairs]) * read(sin[i])))
