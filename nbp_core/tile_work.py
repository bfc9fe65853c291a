"""What a thread does with jobs in matrix tiles: brings one, or helps with those that others bring.

What all threads share is memory at one address: whether a job is open, how many are at it, its next
piece, the job itself.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Final

from numba import carray, int64, njit

from nbp_core.tile_attention import attend_head
from nbp_core.tile_jobs import (
    ATTENTION,
    COMPILED,
    JOB_SIZE,
    KIND,
    NUM_PIECES,
    QUANTIZE,
    SCRATCH,
    SCRATCH_SIZE,
)
from nbp_core.tile_products import multiply, quantize
from nbp_core.tiles import add_atomically, pointer

GATE, INSIDE, NEXT, JOB = 0, 64, 128, 192
"""Places in what threads share, in bytes."""
SHARED_BYTES: Final = JOB + 8 * JOB_SIZE
LOOKS: Final = 40_000
"""Of a thread for the next job before it sleeps: about half a millisecond."""


@njit(**COMPILED)
def _work_on(job, scratch, piece):
    """Does one piece of a job, with a thread's own memory at `scratch`."""
    kind = job[KIND]
    if kind == ATTENTION:
        attend_head(job, scratch, piece)
    elif kind == QUANTIZE:
        quantize(job, piece)
    else:
        multiply(job, scratch, piece)


@njit(**COMPILED)
def _take_pieces(shared, number):
    job = carray(pointer(shared + JOB), JOB_SIZE, int64)
    scratch = job[SCRATCH] + number * job[SCRATCH_SIZE]
    piece = add_atomically(shared + NEXT, 1)
    while piece < job[NUM_PIECES]:
        _work_on(job, scratch, piece)
        piece = add_atomically(shared + NEXT, 1)


def _compiled(sources: int) -> tuple[Any, Any]:
    """(help_out, bring). numba keeps what it compiled, and looks whether this file or what a
    function closes over has changed; `sources` stands for the other files."""

    @njit(**COMPILED, cache=True)
    def help_out(shared, number):
        """Takes pieces of every job that is brought, until none is for a while."""
        looks = 0
        while looks < LOOKS and sources:
            if add_atomically(shared + GATE, 0):
                # Only who is inside while the gate is open may look at the job.
                add_atomically(shared + INSIDE, 1)
                if add_atomically(shared + GATE, 0):
                    _take_pieces(shared, number)
                    looks = 0
                add_atomically(shared + INSIDE, -1)
            looks += 1

    @njit(**COMPILED, cache=True)
    def bring(shared, job):
        """Opens a job and returns when all its pieces are done."""
        place = carray(pointer(shared + JOB), JOB_SIZE, int64)
        for i in range(JOB_SIZE):
            place[i] = job[i]
        carray(pointer(shared + NEXT), 1, int64)[0] = 0
        add_atomically(shared + GATE, 1 if sources else 0)
        _take_pieces(shared, 0)
        add_atomically(shared + GATE, -1)
        inside = 1
        while inside:
            inside = add_atomically(shared + INSIDE, 0)

    return help_out, bring


def _digest() -> int:
    """Of the files that hold what is compiled; never 0."""
    files = sorted(Path(__file__).parent.glob("tile*.py"))
    text = b"".join(path.read_bytes() for path in files)
    return int(hashlib.sha256(text).hexdigest()[:15], 16) | 1


help_out, bring = _compiled(_digest())
