"""Compiled functions, cached on disk between processes."""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import __version__, njit
from numba.core.caching import FunctionCache, IndexDataCacheFile

logger = logging.getLogger(__name__)


class _LabelledFile(IndexDataCacheFile):  # type: ignore[misc]
    """numba's index and data files of one function, with a label in the data files.

    numba writes the index first, then the data, and reuses the names of data files. If the process
    is stopped between the two, the new index names data of an earlier version of the function. The
    label says from which version the data was compiled.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._version = f"{__version__}, labelled"

    def save(self, key: Any, data: Any) -> None:
        """Saves machine code for this key, with its label."""
        super().save(key, (self._label(key), data))

    def load(self, key: Any) -> Any:
        """Returns the machine code for this key, or None if there is none of this version."""
        label, data = super().load(key) or (None, None)
        return data if label == self._label(key) else None

    def _label(self, key: Any) -> tuple[Any, ...]:
        return self._version, self._source_stamp, key


class _MendingCache(FunctionCache):  # type: ignore[misc]
    """numba's disk cache of one function, which replaces unreadable files."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        stamp = self._impl.locator.get_source_stamp()
        self._cache_file = _LabelledFile(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Returns the cached machine code for these types, or None if it must be compiled."""
        try:
            return super().load_overload(sig, target_context)
        except Exception as error:  # the files are pickles; a truncated one may raise anything
            logger.warning("the kept machine code cannot be read (%r); compiling again", error)
            try:
                self.flush()
            except OSError:
                self.disable()
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keeps the machine code for these types if the disk takes it."""
        try:
            super().save_overload(sig, data)
        except OSError as error:
            logger.warning("the machine code cannot be kept for the next start (%s)", error)


def njit_kept(function: Callable[..., Any], **options: Any) -> Any:
    """Compiles like numba.njit, with a disk cache if a folder for it is writable."""
    compiled = njit(**options)(function)
    with contextlib.suppress(RuntimeError):  # numba's, where there is no such folder
        compiled._cache = _MendingCache(function)
    return compiled


def source_digest(instructions: str) -> int:
    """Digest of all kernels' sources and of the name of the instruction set; never 0.

    numba's cache notices changes of a function's own file and of values that it closes over. A
    function that closes over this digest is compiled again when another file has changed.
    """
    files = sorted(Path(__file__).parent.rglob("*.py"))
    text = b"".join(path.read_bytes() for path in files) + instructions.encode()
    return int(hashlib.sha256(text).hexdigest()[:15], 16) | 1
