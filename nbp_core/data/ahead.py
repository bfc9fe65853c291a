"""Computes the items of a stream in threads, a few ahead of use, so that none pile up in memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from nbp_core.cgroup import cores

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(
    work: Callable[[Item], Result], items: Iterable[Item], ahead: int | None = None
) -> Iterator[Result]:
    """Yields the results in order, at most `ahead` of them computed before they are asked for.

    ahead: by default two per core. The work must be native code or another process, of which
    threads use all cores.
    """
    num_threads = cores()
    ahead = 2 * num_threads if ahead is None else ahead
    with ThreadPoolExecutor(num_threads) as pool:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
