"""Jobs that sample tokens from logits, with guidance. A piece of a job is one row of logits.
`place` is the address of the job's record.

Sampling needs no sort. A token is drawn from the whole distribution. If top-k or top-p drop it,
they also drop every token that is not likelier, so the next draw is among the likelier ones. This
rejection sampling gives the filtered distribution exactly. Odds are unnormalised probabilities.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import carray, float32, float64, int16, int32, int64, njit, uint16, uint64

from nbp_core.packed.kernels.instructions import float_of_bits, pointer
from nbp_core.packed.kernels.jobs import COMPILED, DRAW_JOB
from nbp_core.packed.kernels.numbers import NUMBER, NUMBER_BYTES, exp, read, single, written
from nbp_core.packed.kernels.simd.lanes import LANES
from nbp_core.packed.kernels.simd.sums import sum_above

CHUNK: Final = 256
"""Tokens per partial sum of odds, so that a draw scans only one chunk."""
BITS = int16 if NUMBER_BYTES == 2 else int32
SHIFT: Final = 8 * NUMBER_BYTES - 1
SIGN: Final = -(2**SHIFT)
"""The integer type of a logit's bits, the position of its sign bit, and that bit."""
BITS_OF_ONE: Final = 0x3F800000
GOLDEN, FIRST, SECOND = map(np.uint64, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
"""Constants of SplitMix64 (Steele, Lea and Flood, 2014)."""


@njit(**COMPILED)
def _of_half(bits):
    return single(uint16(bits))


_of_bits = _of_half if NUMBER_BYTES == 2 else float_of_bits


@njit(**COMPILED)
def sums_bytes(vocab):
    """Bytes of the partial sums of all chunks, in whole cache lines."""
    return (vocab // CHUNK + 16) // 16 * 64


@njit(**COMPILED)
def _whole_rows(count):
    return (count + LANES - 1) // LANES * LANES


def draw_bytes(vocab: int) -> int:
    """Bytes of scratch buffer per thread for this vocabulary."""
    return int(sums_bytes.py_func(vocab) + 4 * _whole_rows.py_func(vocab))


@njit(**COMPILED)
def guide(place, row):
    """Applies classifier-free guidance in place, as filters.guide does, with the same rounding.

    The rows without the condition follow all rows with it.
    """
    job = carray(pointer(place), 1, DRAW_JOB)[0]
    vocab, step = job.vocab, NUMBER_BYTES * job.input_step
    logits = job.input + row * step
    given = carray(pointer(logits), vocab, NUMBER)
    without = carray(pointer(logits + job.num_pieces * step), vocab, NUMBER)
    strength = float32(carray(pointer(job.settings), 3, float64)[2])
    for i in range(vocab):
        apart = read(written(read(given[i]) - read(without[i])))
        given[i] = written(read(without[i]) + read(written(strength * apart)))


@njit(**COMPILED)
def draw(place, scratch, row):
    """Samples the token of one row of logits; at temperature 0 it is the likeliest."""
    job = carray(pointer(place), 1, DRAW_JOB)[0]
    vocab, top_k = job.vocab, job.top_k
    settings = carray(pointer(job.settings), 3, float64)
    sharpness, top_p = float32(settings[0]), settings[1]
    out = carray(pointer(job.output + 8 * row), 1, int64)
    logits = job.input + NUMBER_BYTES * row * job.input_step
    if sharpness == float32(0.0):  # temperature 0
        out[0] = _likeliest(logits, vocab)
        return
    state = uint64(carray(pointer(job.seeds + 8 * row), 1, int64)[0])
    sums, odds = scratch, scratch + sums_bytes(vocab)
    _spread(logits, vocab, sharpness, odds)
    limit = float32(-1.0)
    rank, total = _above(odds, sums, vocab, limit)
    mass, largest_mass, token = total, -1.0, 0
    before = vocab + 1
    # Each turn leaves fewer odds above the limit. Odds that are not finite may leave as many; the
    # loop then ends with some token.
    while 0 < rank < before:
        before = rank
        state += GOLDEN
        token = _walk(odds, sums, vocab, limit, _uniform(state) * mass)
        limit = carray(pointer(odds + 4 * token), 1, float32)[0]
        rank, mass = _above(odds, sums, vocab, limit)
        rest = top_k - rank
        if rest <= 0:
            continue
        most, least = mass + min(rest * limit, total - mass), total
        if top_k < vocab:
            # Bounds of the mass that top-k keeps: the other tokens of the k are at most as likely
            # as this one, and at least as likely as the average of the remaining tokens.
            least = mass + rest / (vocab - rank) * (total - mass)
        else:
            most = total
        if mass >= top_p * most:
            continue
        if mass >= top_p * least:
            if largest_mass < 0.0:
                largest_mass = _mass_of_largest(odds, vocab, top_k)
            if mass >= top_p * largest_mass:
                continue
        break
    out[0] = token


@njit(**COMPILED)
def _uniform(state):
    """The random number in [0, 1) of a SplitMix64 state."""
    bits = (state ^ (state >> uint64(30))) * FIRST
    bits = (bits ^ (bits >> uint64(27))) * SECOND
    bits ^= bits >> uint64(31)
    return float64(bits >> uint64(11)) * 2.0**-53


@njit(**COMPILED)
def _largest(logits, vocab):
    bits = carray(pointer(logits), vocab, BITS)
    peak = BITS(SIGN)
    for i in range(vocab):
        # Bits of positive numbers order like the numbers; those of negative ones are flipped.
        peak = max(peak, BITS(bits[i] ^ ((bits[i] >> BITS(SHIFT)) & BITS(~SIGN))))
    return _of_bits(BITS(peak ^ ((peak >> BITS(SHIFT)) & BITS(~SIGN))))


@njit(**COMPILED)
def _likeliest(logits, vocab):
    """The first token with the largest logit, as torch.argmax returns it."""
    x, largest = carray(pointer(logits), vocab, NUMBER), _largest(logits, vocab)
    for i in range(vocab):
        if read(x[i]) == largest:
            return i
    return 0


@njit(**COMPILED)
def _spread(logits, vocab, sharpness, odds):
    """Writes odds, exp((logit - largest) / temperature). Padding up to a whole vector is -1, which
    is above no limit."""
    x, largest = carray(pointer(logits), vocab, NUMBER), _largest(logits, vocab)
    out = carray(pointer(odds), vocab, float32)
    for i in range(vocab):
        out[i] = exp((read(x[i]) - largest) * sharpness)
    past = carray(pointer(odds + 4 * vocab), _whole_rows(vocab) - vocab, float32)
    for i in range(_whole_rows(vocab) - vocab):
        past[i] = float32(-1.0)


@njit(**COMPILED)
def _count_above(x, limit):
    found = int32(0)
    for i in range(len(x)):
        found += int32(x[i] > limit)
    return found


@njit(**COMPILED)
def _above(odds, sums, vocab, limit):
    """Number and sum of the odds above a limit. The partial sums go to `sums`."""
    of_chunk = carray(pointer(sums), vocab // CHUNK + 1, float32)
    rank, mass = 0, 0.0
    for start in range(0, vocab, CHUNK):
        count = min(CHUNK, vocab - start)
        x = carray(pointer(odds + 4 * start), count, float32)
        total = sum_above(odds + 4 * start, _whole_rows(count), limit)
        of_chunk[start // CHUNK] = total
        rank += _count_above(x, limit)
        mass += total
    return rank, mass


@njit(**COMPILED)
def _walk(odds, sums, vocab, limit, target):
    """The token at which the running sum of the odds above a limit passes a target."""
    of_chunk = carray(pointer(sums), vocab // CHUNK + 1, float32)
    chunk = 0
    # Rounding can move the target to the total; then the last chunk with odds is taken.
    for index in range((vocab + CHUNK - 1) // CHUNK):
        if of_chunk[index] > float32(0.0):
            chunk = index
            if target < of_chunk[index]:
                break
            target -= of_chunk[index]
    start = chunk * CHUNK
    count = min(CHUNK, vocab - start)
    x = carray(pointer(odds + 4 * start), count, float32)
    token = 0
    for i in range(count):
        if x[i] > limit:
            token = start + i
            if target < x[i]:
                break
            target -= x[i]
    return token


@njit(**COMPILED)
def _mass_of_largest(odds, vocab, count):
    """Sum of the `count` largest odds, by bisection over the bits of the limit: bits of
    non-negative floats order like the floats."""
    x = carray(pointer(odds), vocab, float32)
    low, high = 0, BITS_OF_ONE
    while low < high:
        middle = (low + high) // 2
        limit = float_of_bits(int32(middle))
        if _count_above(x, limit) < count:
            high = middle
        else:
            low = middle + 1
    limit = float_of_bits(int32(low))
    mass = sum_above(odds, _whole_rows(vocab), limit)
    return mass + (count - _count_above(x, limit)) * limit
