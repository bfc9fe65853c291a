"""Threads that share the pieces of small jobs, one job after the other, without sleeping between.

A decode step is some hundred jobs of a fraction of a millisecond. Waking a thread takes a good part
of that, so between jobs it looks for the next one for a while, and only then sleeps. Whoever brings
a job works on it too and never waits for a sleeper: pieces are taken as threads come.
"""

from __future__ import annotations

import threading
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray

from nbp_core.tile_jobs import (
    NUM_PIECES,
    PRODUCT,
    SCRATCH,
    SCRATCH_SIZE,
    new_job,
    scratch_bytes,
)
from nbp_core.tile_work import SHARED_BYTES, bring, help_out
from nbp_core.tiles import ROW_BYTES


class Team:
    """The calling thread and some helpers; one job at a time, other callers wait."""

    def __init__(self, num_threads: int) -> None:
        self._shared = np.zeros(SHARED_BYTES, np.uint8)
        self._place = self._shared.ctypes.data
        self._turn = threading.Lock()
        self._scratch = np.zeros(0, np.uint8)
        # Compiled, or read from the disk, by one thread: it takes seconds, or tenths of one.
        help_out(self._place, 0)
        bring(self._place, new_job(PRODUCT))
        self._wakers = [threading.Event() for _ in range(num_threads - 1)]
        for number, waker in enumerate(self._wakers, 1):
            threading.Thread(target=self._serve, args=(number, waker), daemon=True).start()

    def _serve(self, number: int, waker: threading.Event) -> None:
        while True:
            waker.wait()
            help_out(self._place, number)
            waker.clear()

    def do(self, job: NDArray[np.int64], num_keys: int = 0) -> None:
        """Has a job done (tile_jobs names its places), which may attend to so many keys."""
        size = scratch_bytes(num_keys)
        needed = size * (1 + len(self._wakers)) + ROW_BYTES
        with self._turn:
            if len(self._scratch) < needed:
                self._scratch = np.zeros(needed, np.uint8)
            # A row of a tile that lies across two lines of a cache takes twice as long.
            start = self._scratch.ctypes.data
            job[SCRATCH] = start + -start % ROW_BYTES
            job[SCRATCH_SIZE] = size
            if job[NUM_PIECES] > 1:
                for waker in self._wakers:
                    if not waker.is_set():
                        waker.set()
            bring(self._place, job)


_starting = threading.Lock()


def the_team() -> Team:
    """One for all models of this process, of as many threads as PyTorch has when it is first
    needed."""
    with _starting:
        return _team_of_this_process()


@cache
def _team_of_this_process() -> Team:
    return Team(torch.get_num_threads())
