"""The loop of a worker thread: it submits a list of jobs, or helps with submitted ones.

Threads share one record, SHARED. It says whether a list is open, how many threads work on it, and
where the jobs and the scratch buffers are.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numba import carray, njit

from nbp_core.packed.kernels.attention import attend_head
from nbp_core.packed.kernels.draws import draw, guide
from nbp_core.packed.kernels.instructions import add_atomically, load_atomically, pointer
from nbp_core.packed.kernels.jobs import (
    ATTENTION,
    COMPILED,
    DONE_AT,
    DRAW,
    GATE,
    GUIDE,
    JOB,
    JOB_BYTES,
    LAYER_NORM,
    LINE,
    NEXT_AT,
    QUANTIZE,
    RMS_NORM,
)
from nbp_core.packed.kernels.kept import njit_kept, source_digest
from nbp_core.packed.kernels.numbers import IN_USE
from nbp_core.packed.kernels.products import multiply
from nbp_core.packed.kernels.rows import gate, normalize, quantize

INSIDE_AT: Final = LINE
SHARED: Final = np.dtype(
    {
        "names": ["open", "inside", "jobs", "num_jobs", "scratch", "scratch_size"],
        "formats": [np.int64] * 6,
        "offsets": [0, INSIDE_AT, *range(2 * LINE, 2 * LINE + 32, 8)],
        "itemsize": 3 * LINE,
    },
    align=True,
)
"""jobs and scratch are addresses, scratch_size is bytes per thread. The first two fields change
while threads work, so they have cache lines of their own."""
LOOKS: Final = 400_000
"""How often a helper polls for the next list before it sleeps: about half a millisecond."""


@njit(**COMPILED)
def _work_through(shared, number):
    """Takes pieces of one job after the other. A job starts when the one before it is done."""
    work = carray(pointer(shared), 1, SHARED)[0]
    scratch = work.scratch + number * work.scratch_size
    for index in range(work.num_jobs):
        place = work.jobs + index * JOB_BYTES
        job = carray(pointer(place), 1, JOB)[0]
        kind, num_pieces = job.kind, job.num_pieces
        piece = add_atomically(place + NEXT_AT, 1)
        while piece < num_pieces:
            if kind == ATTENTION:
                attend_head(place, scratch, piece)
            elif kind == DRAW:
                draw(place, scratch, piece)
            elif kind == QUANTIZE:
                quantize(place, piece)
            elif kind == GATE:
                gate(place, piece)
            elif kind == GUIDE:
                guide(place, piece)
            elif kind in (LAYER_NORM, RMS_NORM):
                normalize(place, piece)
            else:
                multiply(place, scratch, piece)
            add_atomically(place + DONE_AT, 1)
            piece = add_atomically(place + NEXT_AT, 1)
        done = load_atomically(place + DONE_AT)
        while done < num_pieces:
            done = load_atomically(place + DONE_AT)


@njit(**COMPILED)
def _open(shared, is_open):
    work = carray(pointer(shared), 1, SHARED)[0]
    for index in range(work.num_jobs):
        job = carray(pointer(work.jobs + index * JOB_BYTES), 1, JOB)[0]
        job.next = 0
        job.done = 0
    add_atomically(shared, is_open)


@njit(**COMPILED)
def _close(shared, is_open):
    """Closes the list and returns when no helper reads it any more."""
    add_atomically(shared, -is_open)
    inside = load_atomically(shared + INSIDE_AT)
    while inside:
        inside = load_atomically(shared + INSIDE_AT)


@njit(**COMPILED)
def _enter(shared):
    """Joins the open list, if there is one. Only threads counted as inside may read the jobs."""
    if not load_atomically(shared):
        return False
    add_atomically(shared + INSIDE_AT, 1)
    if add_atomically(shared, 0):
        return True
    add_atomically(shared + INSIDE_AT, -1)
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
                add_atomically(shared + INSIDE_AT, -1)
                looks = 0
            looks += 1

    return njit_kept(take_part, **COMPILED)


take_part = _compiled(source_digest(IN_USE.name))
