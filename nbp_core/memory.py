"""Which errors say that memory ran out, and giving it back. It serves where torch is not loaded."""

from __future__ import annotations

import ctypes
import errno
import sys


def is_memory_error(error: BaseException) -> bool:
    """Whether memory ran out: Python's, the system's, the accelerator's or torch's on a CPU."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    # torch has an error class for the accelerator only, known here by its name. On a CPU it raises
    # an ordinary RuntimeError with these words.
    is_torch = type(error) is RuntimeError and "allocate memory" in str(error)
    return is_torch or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"


def give_back() -> None:
    """Returns freed memory to the system: glibc keeps what lies between blocks still in use."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other libraries have none
        if trim is not None:
            trim(0)
