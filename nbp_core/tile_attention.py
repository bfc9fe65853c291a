"""Attention of a few new positions to a cache in matrix tiles, compiled by numba.

A piece is one head of one sequence: its keys and values are appended to the cache, which is then
read once for 16 queries, in four streams of addresses. E head width, L keys.
"""

from __future__ import annotations

import math

from numba import carray, float32, int32, njit, uint16

from nbp_core.tile_jobs import (
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
    PIECE,
    QUERIES,
    ROTATED,
    SINE,
    STAGE,
    SUMS,
    TURN_OF_BATCH,
    TURN_OF_HEAD,
    TURN_OF_KEYS,
    TURNED,
    VALUE,
    WEIGHTS,
    WHOLE,
    clear_sums,
    scores_at,
    store_sums,
)
from nbp_core.tile_lanes import LANES, keep_larger, side_by_side, weigh_two
from nbp_core.tile_vectors import half, single
from nbp_core.tiles import (
    ROW_BYTES,
    ROWS,
    TILE_BYTES,
    configure,
    load_tile,
    multiply_bfloat16,
    pointer,
    prefetch,
    store_tile,
    transpose_words,
)


@njit(**COMPILED)
def attend_head(job, scratch, task):
    """All new positions of one head of one sequence: softmax(q k^T / sqrt(E)) v over all L keys.

    Queries, keys and values of a position lie one after the other.
    """
    num_heads, num_rows = job[NUM_HEADS], job[NUM_ROWS]
    width, num_keys = job[HEAD_WIDTH], job[NUM_PAST] + num_rows
    batch, head = task // num_heads, task % num_heads
    of_head = batch * job[KEY_OF_BATCH] + head * job[KEY_OF_HEAD]
    step = 6 * num_heads * width
    query = job[INPUT] + batch * num_rows * step + 2 * head * width
    of_turn = batch * job[TURN_OF_BATCH] + head * job[TURN_OF_HEAD]
    _append(job, query, of_turn, of_head)
    configure(WHOLE.ctypes.data)
    for first in range(0, num_rows, ROWS):
        rows = min(ROWS, num_rows - first)
        _arrange_queries(job, query + first * step, of_turn + 2 * first * width, rows, scratch)
        _score(job[KEY] + of_head, num_keys, width, scratch)
        _weigh(job[VALUE] + of_head, num_keys, width, scratch)
        for start in range(0, width, PIECE):
            _gather(job[VALUE] + of_head, num_keys, width, start, scratch)
            count = min(PIECE, width - start)
            place = ((batch * num_rows + first) * num_heads + head) * width + start
            _divide(job[OUTPUT] + 2 * place, 2 * num_heads * width, rows, count, scratch)


@njit(**COMPILED)
def _append(job, query, of_turn, of_head):
    """New keys, turned, and new values, to the end of the cache."""
    num_rows, width = job[NUM_ROWS], job[HEAD_WIDTH]
    of_kind = 2 * job[NUM_HEADS] * width
    for row in range(num_rows):
        key, place = query + (3 * row + 1) * of_kind, of_head + 2 * (job[NUM_PAST] + row) * width
        _turn(job, key, job[KEY] + place, job[TURN_OF_KEYS] + of_turn + 2 * row * width)
        value = carray(pointer(key + of_kind), width, uint16)
        kept = carray(pointer(job[VALUE] + place), width, uint16)
        for i in range(width):
            kept[i] = value[i]


@njit(**COMPILED)
def _turn(job, source, target, of_turn):
    """One query or key at one address, turned to its place, to another (attention.Rotation)."""
    width = job[HEAD_WIDTH]
    pairs = width // 2
    x = carray(pointer(source), width, uint16)
    out = carray(pointer(target), width, uint16)
    if job[COSINE] == 0:
        for i in range(width):
            out[i] = x[i]
        return
    cos = carray(pointer(job[COSINE] + of_turn), width, uint16)
    sin = carray(pointer(job[SINE] + of_turn), width, uint16)
    for i in range(pairs):
        out[i] = half(single(x[i]) * single(cos[i]) + single(x[pairs + i]) * single(sin[i]))
    for i in range(pairs, width):
        out[i] = half(single(x[i]) * single(cos[i]) + single(x[i - pairs]) * single(sin[i]))


@njit(**COMPILED)
def _divide(out, step, rows, count, scratch):
    """Gathered sums over the sums of the weights, to the outputs' places."""
    sums = carray(pointer(scratch + SUMS), ROWS, float32)
    for row in range(rows):
        found = carray(pointer(scratch + 4 * PIECE * row), PIECE, float32)
        target = carray(pointer(out + step * row), PIECE, uint16)
        factor = float32(1.0) / sums[row]
        for i in range(count):
            target[i] = half(found[i] * factor)


@njit(**COMPILED)
def _arrange_queries(job, query, of_turn, rows, scratch):
    """Queries turned to their places, then with inputs as rows, in pairs, a tile for each 32
    inputs; missing rows are zero."""
    width = job[HEAD_WIDTH]
    for row in range(rows):
        source = query + 6 * job[NUM_HEADS] * width * row
        _turn(job, source, scratch + ROTATED + 2 * width * row, of_turn + 2 * width * row)
    words = carray(pointer(scratch + STAGE), (ROWS, 16), int32)
    for part in range(width // 32):
        for row in range(ROWS):
            place = scratch + ROTATED + 2 * width * row + ROW_BYTES * part
            source = carray(pointer(place), 16, int32)
            for i in range(16):
                words[row, i] = source[i] if row < rows else int32(0)
        transpose_words(scratch + STAGE, scratch + QUERIES + TILE_BYTES * part)


@njit(**COMPILED)
def _keys_of(address, first, count, num_keys, width, scratch, slot):
    """Address of keys [first, first + count), or of a copy of them where some are past the end:
    those are zero there."""
    if first + count <= num_keys:
        return address + 2 * first * width
    stage = scratch + STAGE + 2 * slot * count * width
    for i in range(count):
        source = carray(pointer(address + 2 * (first + i) * width), width, uint16)
        copied = carray(pointer(stage + 2 * i * width), width, uint16)
        for j in range(width):
            copied[j] = source[j] if first + i < num_keys else uint16(0)
    return stage


@njit(**COMPILED)
def _score(key, num_keys, width, scratch):
    """Products of every key with the 16 queries, keys as rows; four streams of keys."""
    scores, size = scratch + scores_at(num_keys), 2 * width * ROWS
    stream = (num_keys + PIECE - 1) // PIECE
    for tile in range(stream):
        a = _keys_of(key, ROWS * tile, ROWS, num_keys, width, scratch, 0)
        b = _keys_of(key, ROWS * (tile + stream), ROWS, num_keys, width, scratch, 1)
        c = _keys_of(key, ROWS * (tile + 2 * stream), ROWS, num_keys, width, scratch, 2)
        d = _keys_of(key, ROWS * (tile + 3 * stream), ROWS, num_keys, width, scratch, 3)
        clear_sums()
        for part in range(0, 2 * width, ROW_BYTES):
            for line in range(size + ROWS * part, size + ROWS * (part + ROW_BYTES), ROW_BYTES):
                prefetch(a + line)
                prefetch(b + line)
                prefetch(c + line)
                prefetch(d + line)
            load_tile(4, scratch + QUERIES + ROWS * part, ROW_BYTES)
            load_tile(5, a + part, 2 * width)
            multiply_bfloat16(0, 5, 4)
            load_tile(6, b + part, 2 * width)
            multiply_bfloat16(1, 6, 4)
            load_tile(7, c + part, 2 * width)
            multiply_bfloat16(2, 7, 4)
            load_tile(5, d + part, 2 * width)
            multiply_bfloat16(3, 5, 4)
        store_tile(0, scores, ROW_BYTES)
        store_tile(1, scores + stream * TILE_BYTES, ROW_BYTES)
        store_tile(2, scores + 2 * stream * TILE_BYTES, ROW_BYTES)
        store_tile(3, scores + 3 * stream * TILE_BYTES, ROW_BYTES)
        scores += TILE_BYTES


@njit(**COMPILED)
def _weigh(value, num_keys, width, scratch):
    """Scores -> exp of what they are below the largest, as bfloat16 with queries as rows, a tile
    for each 32 keys; and their sums. Values are asked for meanwhile: nothing else is read."""
    padded = (num_keys + 31) // 32 * 32
    scores = scratch + scores_at(num_keys)
    past = carray(pointer(scores + ROW_BYTES * num_keys), (padded - num_keys) * ROWS, float32)
    for i in range((padded - num_keys) * ROWS):
        past[i] = float32(-1e30)
    largest = carray(pointer(scratch), ROWS, float32)
    sums = carray(pointer(scratch + SUMS), ROWS, float32)
    for row in range(ROWS):
        largest[row] = float32(-1e30)
        sums[row] = float32(0.0)
    for key in range(num_keys):
        keep_larger(scores + ROW_BYTES * key, scratch)
    sharpness = float32(1.0 / math.sqrt(width))
    for pair in range(padded // 2):
        for line in range(width * pair, width * (pair + 1), ROW_BYTES):
            for stream in range(4):
                prefetch(value + stream * padded // 2 * width + line)
        words = scratch + STAGE + ROW_BYTES * (pair % 16)
        weigh_two(scores + 2 * ROW_BYTES * pair, scratch, sharpness, scratch + SUMS, words)
        if pair % 16 == 15:
            transpose_words(scratch + STAGE, scratch + WEIGHTS + TILE_BYTES * (pair // 16))


@njit(**COMPILED)
def _gather(value, num_keys, width, start, scratch):
    """Sums of values by weight, of up to 64 numbers of the head from `start` on."""
    count = min(PIECE, width - start)
    clear_sums()
    for first in range(0, num_keys, 32):
        at = _keys_of(value, first, 32, num_keys, width, scratch, 0)
        for pair in range(16):
            one, words = at + 2 * (2 * pair * width + start), scratch + TURNED + 4 * PIECE * pair
            for lane in range(0, count, LANES):
                side_by_side(one + 2 * lane, one + 2 * (width + lane), words + 4 * lane)
        load_tile(4, scratch + WEIGHTS + TILE_BYTES * (first // 32), ROW_BYTES)
        load_tile(5, scratch + TURNED, 4 * PIECE)
        multiply_bfloat16(0, 4, 5)
        load_tile(6, scratch + TURNED + ROW_BYTES, 4 * PIECE)
        multiply_bfloat16(1, 4, 6)
        if count > 32:
            load_tile(7, scratch + TURNED + 2 * ROW_BYTES, 4 * PIECE)
            multiply_bfloat16(2, 4, 7)
            load_tile(5, scratch + TURNED + 3 * ROW_BYTES, 4 * PIECE)
            multiply_bfloat16(3, 4, 5)
    store_sums(scratch)
