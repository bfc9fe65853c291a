"""Computes the items of a stream in threads, a few ahead of use, so that none pile up in memory."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
CORES = os.cpu_count() or 1


def in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], ahead: int = 2 * CORES
) -> Iterator[Result]:
    """Yields the results in order, at most `ahead` of them computed before they are asked for.

    The work must be native code or another process, of which threads use all cores.
    """
    with ThreadPoolExecutor(CORES) as pool:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
