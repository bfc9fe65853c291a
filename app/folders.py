"""Folders that only this user can read: what a studio makes, and what is uploaded to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
from pathlib import Path

_PREFIX = "nbp-studio-"


class Uploads:
    """Where Gradio puts uploads and what it serves; else it shares a folder in /tmp with others.

    Gradio looks for one folder in a process, whenever it is asked for a file. So all studios of a
    process share it, and it goes with the last of them.
    """

    def __init__(self) -> None:
        self._folder = Path()
        self._owners = set[Path]()
        self._lock = threading.Lock()

    def open(self, owner: Path) -> Path:
        """The folder, which stays at least until this owner closes it."""
        with self._lock:
            if not self._owners:
                self._folder = private_folder()
                os.environ["GRADIO_TEMP_DIR"] = str(self._folder)
            self._owners.add(owner)
            return self._folder

    def close(self, owner: Path) -> None:
        """Removes the folder when nobody else has it open."""
        with self._lock:
            was_open = owner in self._owners
            self._owners.discard(owner)
            if was_open and not self._owners:
                os.environ.pop("GRADIO_TEMP_DIR", None)
                shutil.rmtree(self._folder, ignore_errors=True)


UPLOADS = Uploads()
"""Of this process."""


def private_folder() -> Path:
    """A new folder that only this user can read; those of studios that were killed are removed."""
    root = Path(tempfile.gettempdir())
    for old in root.glob(f"{_PREFIX}*"):
        owner = old.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and old.stat().st_uid == os.getuid() and not _is_alive(int(owner)):
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def num_bytes(*folders: Path) -> int:
    """Of every file in the folders and all below them."""
    return sum(size for _, size, _ in _files(folders))


def trim(max_bytes: int, *folders: Path) -> None:
    """Deletes the oldest files of the folders and all below them until what is left fits."""
    files = _files(folders)
    total = sum(size for _, size, _ in files)
    for path, size, _ in sorted(files, key=lambda file: file[2]):
        if total <= max_bytes:
            return
        path.unlink(missing_ok=True)
        total -= size


def _files(folders: tuple[Path, ...]) -> list[tuple[Path, int, float]]:
    """(path, bytes, time of the last change) of every file below; some may vanish meanwhile."""
    files = []
    for path in (path for folder in folders for path in folder.rglob("*")):
        with contextlib.suppress(OSError):
            stat = path.stat()
            if not path.is_dir():
                files.append((path, stat.st_size, stat.st_mtime))
    return files
