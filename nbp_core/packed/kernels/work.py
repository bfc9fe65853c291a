"""What a thread does with lists of jobs: brings one, or helps with those that others bring.

What all threads share is memory at one address: whether a list is open, how many are at it, where
the jobs and the threads' own memories are.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

from numba import carray, int64, njit

from nbp_core.packed.kernels.attention import attend_head
from nbp_core.packed.kernels.draws import draw, guide
from nbp_core.packed.kernels.instructions import add_atomically, load_atomically, pointer
from nbp_core.packed.kernels.jobs import (
    ATTENTION,
    COMPILED,
    DONE,
    DRAW,
    GATE,
    GUIDE,
    JOB_SIZE,
    KIND,
    LAYER_NORM,
    NEXT,
    NUM_PIECES,
    QUANTIZE,
    RMS_NORM,
)
from nbp_core.packed.kernels.kept import njit_kept
from nbp_core.packed.kernels.numbers import IN_USE
from nbp_core.packed.kernels.products import multiply
from nbp_core.packed.kernels.rows import gate, normalize, quantize

OPEN, INSIDE, JOBS, NUM_JOBS, SCRATCH, SCRATCH_SIZE, SHARED_SIZE = 0, 8, 16, 17, 18, 19, 24
"""Places in what threads share: int64, the first two in lines of the cache for themselves."""
LOOKS: Final = 400_000
"""Of a thread for the next jobs before it sleeps: about half a millisecond."""


@njit(**COMPILED)
def _work_through(shared, number):
    """Takes pieces of one job after the other, each of which needs what the ones before made."""
    told = carray(pointer(shared), SHARED_SIZE, int64)
    scratch = told[SCRATCH] + number * told[SCRATCH_SIZE]
    for index in range(told[NUM_JOBS]):
        place = told[JOBS] + index * 8 * JOB_SIZE
        job = carray(pointer(place), JOB_SIZE, int64)
        kind, num_pieces = job[KIND], job[NUM_PIECES]
        piece = add_atomically(place + 8 * NEXT, 1)
        while piece < num_pieces:
            if kind == ATTENTION:
                attend_head(job, scratch, piece)
            elif kind == DRAW:
                draw(job, scratch, piece)
            elif kind == QUANTIZE:
                quantize(job, piece)
            elif kind == GATE:
                gate(job, piece)
            elif kind == GUIDE:
                guide(job, piece)
            elif kind in (LAYER_NORM, RMS_NORM):
                normalize(job, piece)
            else:
                multiply(job, scratch, piece)
            add_atomically(place + 8 * DONE, 1)
            piece = add_atomically(place + 8 * NEXT, 1)
        done = load_atomically(place + 8 * DONE)
        while done < num_pieces:
            done = load_atomically(place + 8 * DONE)


@njit(**COMPILED)
def _open(shared, is_open):
    told = carray(pointer(shared), SHARED_SIZE, int64)
    for index in range(told[NUM_JOBS]):
        job = carray(pointer(told[JOBS] + index * 8 * JOB_SIZE), JOB_SIZE, int64)
        job[NEXT] = 0
        job[DONE] = 0
    add_atomically(shared + 8 * OPEN, is_open)


@njit(**COMPILED)
def _close(shared, is_open):
    """Returns when nobody looks at the jobs any more."""
    add_atomically(shared + 8 * OPEN, -is_open)
    inside = load_atomically(shared + 8 * INSIDE)
    while inside:
        inside = load_atomically(shared + 8 * INSIDE)


@njit(**COMPILED)
def _enter(shared):
    """Whether there are jobs: only who is inside while the gate is open may look at them."""
    if not load_atomically(shared + 8 * OPEN):
        return False
    add_atomically(shared + 8 * INSIDE, 1)
    if add_atomically(shared + 8 * OPEN, 0):
        return True
    add_atomically(shared + 8 * INSIDE, -1)
    return False


def _compiled(sources: int) -> Any:
    """numba keeps what it compiled, and looks whether this file or what a function closes over has
    changed; `sources` stands for the other files. One function, since each would hold all of it."""

    def take_part(shared, number, is_open):
        """Thread 0 has the jobs done that are told of, by whoever helps if the gate is to be open;
        the others take pieces of all that are brought, until none are for a while."""
        if number == 0:
            _open(shared, is_open)
        looks = 0
        while looks < LOOKS and sources:
            if number == 0 or _enter(shared):
                _work_through(shared, number)
                if number == 0:
                    _close(shared, is_open)
                    return
                add_atomically(shared + 8 * INSIDE, -1)
                looks = 0
            looks += 1

    return njit_kept(take_part, **COMPILED)


def _digest() -> int:
    """Of the files that hold what is compiled and of what they choose by; never 0."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    text = b"".join(path.read_bytes() for path in files) + IN_USE.name.encode()
    return int(hashlib.sha256(text).hexdigest()[:15], 16) | 1


take_part = _compiled(_digest())
