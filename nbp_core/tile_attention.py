"""Attention of a few queries to a long cache in matrix tiles, compiled by numba.

A piece is one head of one sequence, 16 queries at a time. Keys, then values, are read once, in four
streams of addresses each. E head width, L keys.
"""

from __future__ import annotations

import math

from numba import carray, float32, int32, njit, uint16, uint32

from nbp_core.tile_jobs import (
    COMPILED,
    HEAD_WIDTH,
    INPUT,
    KEY,
    KEY_OF_BATCH,
    KEY_OF_HEAD,
    NUM_HEADS,
    NUM_KEYS,
    NUM_ROWS,
    OUTPUT,
    PIECE,
    QUERIES,
    QUERY_OF_BATCH,
    QUERY_OF_HEAD,
    QUERY_OF_ROW,
    STAGE,
    SUMS,
    TURNED,
    VALUE,
    WEIGHTS,
    WHOLE,
    clear_sums,
    scores_at,
    store_sums,
)
from nbp_core.tile_vectors import exp, half
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
    """All rows of one head of one sequence: softmax(q k^T / sqrt(E)) v over the first L keys."""
    num_heads, num_rows = job[NUM_HEADS], job[NUM_ROWS]
    width, num_keys = job[HEAD_WIDTH], job[NUM_KEYS]
    batch, head = task // num_heads, task % num_heads
    of_head = batch * job[KEY_OF_BATCH] + head * job[KEY_OF_HEAD]
    query = job[INPUT] + batch * job[QUERY_OF_BATCH] + head * job[QUERY_OF_HEAD]
    configure(WHOLE.ctypes.data)
    for first in range(0, num_rows, ROWS):
        rows = min(ROWS, num_rows - first)
        step = job[QUERY_OF_ROW]
        _turn_queries(query + first * step, step, rows, width, scratch)
        _score(job[KEY] + of_head, num_keys, width, scratch)
        _weigh(job[VALUE] + of_head, num_keys, width, scratch)
        for start in range(0, width, PIECE):
            _gather(job[VALUE] + of_head, num_keys, width, start, scratch)
            count = min(PIECE, width - start)
            place = ((batch * num_rows + first) * num_heads + head) * width + start
            _divide(job[OUTPUT] + 2 * place, 2 * num_heads * width, rows, count, scratch)


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
def _turn_queries(query, step, rows, width, scratch):
    """Queries with inputs as rows, in pairs, a tile for each 32 inputs; missing rows are zero."""
    words = carray(pointer(scratch + STAGE), (ROWS, 16), int32)
    for part in range(width // 32):
        for row in range(ROWS):
            source = carray(pointer(query + row * step + ROW_BYTES * part), 16, int32)
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
    largest = carray(pointer(scratch), ROWS, float32)
    sums = carray(pointer(scratch + SUMS), ROWS, float32)
    scale = float32(1.0 / math.sqrt(width))
    for row in range(ROWS):
        largest[row] = float32(-1e30)
        sums[row] = float32(0.0)
    for key in range(padded):
        score = carray(pointer(scores + ROW_BYTES * key), ROWS, float32)
        for row in range(ROWS):
            if key >= num_keys:
                score[row] = float32(-1e30)
            largest[row] = max(largest[row], score[row])
    for pair in range(padded // 2):
        one = carray(pointer(scores + 2 * ROW_BYTES * pair), ROWS, float32)
        two = carray(pointer(scores + 2 * ROW_BYTES * pair + ROW_BYTES), ROWS, float32)
        words = carray(pointer(scratch + STAGE + ROW_BYTES * (pair % 16)), ROWS, uint32)
        for line in range(width * pair, width * (pair + 1), ROW_BYTES):
            for stream in range(4):
                prefetch(value + stream * padded // 2 * width + line)
        for row in range(ROWS):
            first = exp((one[row] - largest[row]) * scale)
            second = exp((two[row] - largest[row]) * scale)
            sums[row] += first + second
            words[row] = uint32(half(first)) | (uint32(half(second)) << uint32(16))
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
            one = carray(pointer(at + 2 * (2 * pair * width + start)), PIECE, uint16)
            two = carray(pointer(at + 2 * ((2 * pair + 1) * width + start)), PIECE, uint16)
            words = carray(pointer(scratch + TURNED + 4 * PIECE * pair), PIECE, uint32)
            for i in range(count):
                words[i] = uint32(one[i]) | (uint32(two[i]) << uint32(16))
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
