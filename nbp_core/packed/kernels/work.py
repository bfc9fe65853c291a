"""The loop of a worker thread: it submits a list of jobs, or helps with submitted ones.

Threads share one record of int64: whether a list is open, how many threads work on it, and the
addresses of the jobs and of the scratch buffers.
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
"""Indices in the shared record. The first two have cache lines of their own."""
LOOKS: Final = 400_000
"""How often a helper polls for the next list before it sleeps: about half a millisecond."""


@njit(**COMPILED)
def _work_through(shared, number):
    """Takes pieces of one job after the other. A job starts when the one before it is done."""
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
    """Closes the list and returns when no helper reads it any more."""
    add_atomically(shared + 8 * OPEN, -is_open)
    inside = load_atomically(shared + 8 * INSIDE)
    while inside:
        inside = load_atomically(shared + 8 * INSIDE)


@njit(**COMPILED)
def _enter(shared):
    """Joins the open list, if there is one. Only threads counted as inside may read the jobs."""
    if not load_atomically(shared + 8 * OPEN):
        return False
    add_atomically(shared + 8 * INSIDE, 1)
    if add_atomically(shared + 8 * OPEN, 0):
        return True
    add_atomically(shared + 8 * INSIDE, -1)
    return False


def _compiled(sources: int) -> Any:
    """Compiles the loop with a disk cache.

    numba's cache notices changes of this file and of closed-over values; `sources` is a digest of
    the other files. All kernels are in one function, because each cached function would contain
    a copy of them.
    """

    def take_part(shared, number, is_open):
        """Thread 0 works through the submitted list, with helpers if it is_open. Helpers take
        pieces of every list until none has come for a while."""
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
    """Digest of the compiled sources and of the instruction set; never 0."""
    files = sorted(Path(__file__).parent.rglob("*.py"))
    text = b"".join(path.read_bytes() for path in files) + IN_USE.name.encode()
    return int(hashlib.sha256(text).hexdigest()[:15], 16) | 1


take_part = _compiled(_digest())
