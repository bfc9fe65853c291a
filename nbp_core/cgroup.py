"""What a container may use of its machine. Linux only; elsewhere nothing is limited.

Input: the control groups of this process, version 1 or 2, and all those around them. Output: the
memory and the processors that the strictest of them leaves, or None if none of them has a limit.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_MEMBERSHIP = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")
_MEMORY = (
    ("memory.max", "memory.current"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes"),
)
"""Files of the limit and of the usage, in versions 2 and 1."""
_CACHES = ("active_file", "inactive_file")


def memory_left() -> int | None:
    """Bytes until the limit; the system gives back what files only take as a cache."""
    left = []
    for folder in _folders("memory"):
        for limit_name, usage_name in _MEMORY:
            limit, usage = _words(folder / limit_name), _words(folder / usage_name)
            if limit and usage and limit[0] != "max":
                left.append(int(limit[0]) - int(usage[0]) + _cached_bytes(folder))
    return max(0, min(left)) if left else None


def processors() -> float | None:
    """Processors whose time this process may use up, such as 1.5."""
    found = []
    for folder in _folders("cpu"):
        words = _words(folder / "cpu.max") or [
            *_words(folder / "cpu.cfs_quota_us"),
            *_words(folder / "cpu.cfs_period_us"),
        ]
        if len(words) == 2 and words[0] not in ("max", "-1"):
            found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def cores() -> int:
    """Cores that this process can use at once, by its affinity and the limits of its container."""
    can_ask = hasattr(os, "sched_getaffinity")
    count = len(os.sched_getaffinity(0)) if can_ask else os.cpu_count() or 1
    return min(count, math.ceil(processors() or count))


def _folders(controller: str) -> Iterator[Path]:
    """The folders of this process' groups and of those around them.

    In a container the groups may be named as outside and not be there; the outermost one is.
    """
    try:
        lines = _MEMBERSHIP.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        group = Path(name.lstrip("/"))
        for part in (group, *group.parents):
            yield (_MOUNT / controller if controllers else _MOUNT) / part


def _cached_bytes(folder: Path) -> int:
    words = _words(folder / "memory.stat")
    figures = dict(zip(words[::2], map(int, words[1::2]), strict=False))
    # Version 1 names those with all groups inside "total"; version 2 has only such.
    return sum(figures.get(f"total_{name}", figures.get(name, 0)) for name in _CACHES)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
