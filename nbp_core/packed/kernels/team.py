"""A thread pool for lists of small jobs, whose threads poll instead of sleeping.

A decode step is about a hundred jobs, each of a fraction of a millisecond. Waking a thread takes a
large part of that time, so a thread polls for the next list for a while before it sleeps. The
caller works on its own jobs and never waits for a sleeping thread: the threads that are awake take
the pieces.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from nbp_core.packed.kernels.jobs import LINE, Jobs
from nbp_core.packed.kernels.work import SHARED, take_part
from nbp_core.runtime import runtime


def aligned(num_bytes: int) -> NDArray[np.uint8]:
    """Zeros that start at a cache line. Reading data across two lines takes twice as long."""
    memory = np.zeros(num_bytes + LINE, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + num_bytes]


class Team:
    """The calling thread and its helpers. One list of jobs runs at a time; other callers wait."""

    def __init__(self, num_threads: int) -> None:
        self._shared = aligned(SHARED.itemsize).view(SHARED)
        self._place = self._shared.ctypes.data
        self._turn = threading.Lock()
        self._scratch = aligned(0)
        # Compiles in one thread, which takes seconds; from the disk cache, tenths of a second.
        take_part(self._place, 0, 0)
        self._wakers = [threading.Event() for _ in range(num_threads - 1)]
        for number, waker in enumerate(self._wakers, 1):
            threading.Thread(target=self._serve, args=(number, waker), daemon=True).start()

    def _serve(self, number: int, waker: threading.Event) -> None:
        while True:
            waker.wait()
            waker.clear()
            take_part(self._place, number, 0)

    def do(self, jobs: Jobs, scratch_size: int, alone: bool = False) -> None:
        """Does a list of jobs in order and returns when all are done.

        scratch_size: bytes of scratch buffer per thread. alone: only the calling thread works.
        """
        size = -(-scratch_size // LINE) * LINE
        needed = size * (1 + len(self._wakers))
        with self._turn:
            if len(self._scratch) < needed:
                self._scratch = aligned(needed)
            work = self._shared[0]
            work["jobs"], work["num_jobs"] = jobs.ctypes.data, len(jobs)
            work["scratch"], work["scratch_size"] = self._scratch.ctypes.data, size
            if not alone:
                for waker in self._wakers:
                    if not waker.is_set():
                        waker.set()
            take_part(self._place, 0, int(not alone))


_starting = threading.Lock()
_teams: list[Team] = []


def the_team() -> Team:
    """The thread pool that all models of this process share, made when it is first needed."""
    with _starting:
        if not _teams:
            _teams.append(Team(runtime().num_threads))
        return _teams[0]


def is_gathered() -> bool:
    """Whether the thread pool exists, so that the_team() returns at once."""
    return bool(_teams)


def gather_team() -> None:
    """Makes the thread pool in the background: compiling takes seconds on a new machine."""
    runtime()  # PyTorch's number of threads is that of this thread, not of a new one
    threading.Thread(target=the_team, daemon=True).start()
