"""What a thread does with lists of jobs: brings one, or helps with those that others bring.

What all threads share is memory at one address: whether a list is open, how many are at it, where
the jobs and the threads' own memories are.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

from numba import carray, int64, njit

from nbp_core.tile_attention import attend_head
from nbp_core.tile_draws import draw
from nbp_core.tile_jobs import (
    ATTENTION,
    COMPILED,
    DONE,
    DRAW,
    GATE,
    JOB_SIZE,
    KIND,
    LAYER_NORM,
    NEXT,
    NUM_PIECES,
    QUANTIZE,
    RMS_NORM,
)
from nbp_core.tile_products import multiply
from nbp_core.tile_rows import gate, normalize, quantize
from nbp_core.tiles import add_atomically, load_atomically, pointer

OPEN, INSIDE, JOBS, NUM_JOBS, SCRATCH, SCRATCH_SIZE, SHARED_SIZE = 0, 8, 16, 17, 18, 19, 24
"""Places in what threads share: int64, the first two in lines of the cache for themselves."""
LOOKS: Final = 400_000
"""Of a thread for the next jobs before it sleeps: about half a millisecond."""


@njit(**COMPILED)
def _work_on(job, scratch, piece):
    """Does one piece of a job, with a thread's own memory at `scratch`."""
    kind = job[KIND]
    if kind == ATTENTION:
        attend_head(job, scratch, piece)
    elif kind == QUANTIZE:
        quantize(job, piece)
    elif kind == DRAW:
        draw(job, scratch, piece)
    elif kind == GATE:
        gate(job, piece)
    elif kind in (LAYER_NORM, RMS_NORM):
        normalize(job, piece)
    else:
        multiply(job, scratch, piece)


@njit(**COMPILED)
def _work_through(shared, number):
    """Takes pieces of one job after the other, each of which needs what the ones before made."""
    told = carray(pointer(shared), SHARED_SIZE, int64)
    scratch = told[SCRATCH] + number * told[SCRATCH_SIZE]
    for index in range(told[NUM_JOBS]):
        place = told[JOBS] + index * 8 * JOB_SIZE
        job = carray(pointer(place), JOB_SIZE, int64)
        num_pieces = job[NUM_PIECES]
        piece = add_atomically(place + 8 * NEXT, 1)
        while piece < num_pieces:
            _work_on(job, scratch, piece)
            add_atomically(place + 8 * DONE, 1)
            piece = add_atomically(place + 8 * NEXT, 1)
        done = load_atomically(place + 8 * DONE)
        while done < num_pieces:
            done = load_atomically(place + 8 * DONE)


def _compiled(sources: int) -> tuple[Any, Any]:
    """(help_out, bring). numba keeps what it compiled, and looks whether this file or what a
    function closes over has changed; `sources` stands for the other files."""

    @njit(**COMPILED, cache=True)
    def help_out(shared, number):
        """Takes pieces of all jobs that are brought, until none are for a while."""
        looks = 0
        while looks < LOOKS and sources:
            if load_atomically(shared + 8 * OPEN):
                # Only who is inside while the gate is open may look at the jobs.
                add_atomically(shared + 8 * INSIDE, 1)
                if add_atomically(shared + 8 * OPEN, 0):
                    _work_through(shared, number)
                    looks = 0
                add_atomically(shared + 8 * INSIDE, -1)
            looks += 1

    @njit(**COMPILED, cache=True)
    def bring(shared, is_open):
        """Does the jobs that are told of, with whoever helps if the gate is open."""
        told = carray(pointer(shared), SHARED_SIZE, int64)
        for index in range(told[NUM_JOBS]):
            job = carray(pointer(told[JOBS] + index * 8 * JOB_SIZE), JOB_SIZE, int64)
            job[NEXT] = 0
            job[DONE] = 0
        add_atomically(shared + 8 * OPEN, is_open if sources else 0)
        _work_through(shared, 0)
        add_atomically(shared + 8 * OPEN, -is_open)
        inside = load_atomically(shared + 8 * INSIDE)
        while inside:
            inside = load_atomically(shared + 8 * INSIDE)

    return help_out, bring


def _digest() -> int:
    """Of the files that hold what is compiled; never 0."""
    files = sorted(Path(__file__).parent.glob("tile*.py"))
    text = b"".join(path.read_bytes() for path in files)
    return int(hashlib.sha256(text).hexdigest()[:15], 16) | 1


help_out, bring = _compiled(_digest())
