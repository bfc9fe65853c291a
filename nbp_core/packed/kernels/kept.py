"""Compiled functions, cached on disk between processes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

logger = logging.getLogger(__name__)


class _MendingCache(FunctionCache):  # type: ignore[misc]
    """numba's disk cache of one function; unreadable files are replaced."""

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


def njit_kept(function: Callable[..., Any], **options: Any) -> Any:
    """Compiles like numba.njit, with a disk cache if a folder for it is writable."""
    compiled = njit(**options)(function)
    with contextlib.suppress(RuntimeError):  # numba's, where there is no such folder
        compiled._cache = _MendingCache(function)
    return compiled
