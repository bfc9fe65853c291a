"""Compiled functions that are kept on disk between starts."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core.caching import FunctionCache

logger = logging.getLogger(__name__)


class _MendingCache(FunctionCache):  # type: ignore[misc]
    """numba's cache of one function; files that cannot be read are written anew."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The kept machine code for these types, or None where it has to be compiled."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # the files are pickles: a cut one may raise anything
            logger.warning("the kept machine code cannot be read; it is compiled anew")
            try:
                self.flush()
            except OSError:
                self.disable()
            return None


def njit_kept(function: Callable[..., Any], **options: Any) -> Any:
    """numba.njit with its cache on disk, or without where no folder can be written to."""
    compiled = njit(**options)(function)
    with contextlib.suppress(RuntimeError):  # numba's, where there is no such folder
        compiled._cache = _MendingCache(function)
    return compiled
