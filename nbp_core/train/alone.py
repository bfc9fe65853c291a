"""One process at a time trains in a run folder: two would overwrite each other's checkpoints."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def alone(run_folder: Path) -> Iterator[None]:
    """While this lasts, no other run may begin in the folder, which is made if it is missing.

    The system ends the lock with the process. Of the processes of one distributed run the first
    has it. Raises ValueError if another run has it.
    """
    run_folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None or os.environ.get("RANK", "0") != "0":
        yield
        return
    lock = os.open(run_folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"another process trains in run folder {run_folder.name!r}: wait for its end, or "
                "use another run folder"
            ) from error
        except OSError:  # some network disks have no locks
            pass
        yield
    finally:
        os.close(lock)
