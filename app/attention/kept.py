"""What survives a reload of the Attention tab: which clip was open, with which settings."""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbp_core.config.json import JsonConfig

MAX_OWN = 64
"""Uploads of visitors that are remembered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kept(JsonConfig):
    """The settings of what was open, as the browser keeps them."""

    key: str
    own: str
    """The name of an upload, empty for other clips."""
    crop: float
    beside: bool
    action: str
    block: str
    layer: int
    head: str


def read_kept(kept: dict[str, Any] | None) -> Kept | None:
    """What the browser kept; None for anything else."""
    try:
        return Kept.from_dict(kept)
    except ValueError:
        return None


class OwnClips:
    """The latest uploads, under names that nobody can guess: no path reaches a browser."""

    def __init__(self) -> None:
        self._paths: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def name(self, path: str | None) -> str:
        """The name of an upload; empty without one."""
        if path is None:
            return ""
        with self._lock:
            for name, other in self._paths.items():
                if other == path:
                    return name
            name = secrets.token_urlsafe(12)
            self._paths[name] = path
            while len(self._paths) > MAX_OWN:
                self._paths.popitem(last=False)
        return name

    def path(self, name: str) -> str | None:
        """The upload of a name, if it is still there."""
        with self._lock:
            path = self._paths.get(name)
        return path if path and Path(path).is_file() else None
