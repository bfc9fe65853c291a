"""Ctrl+C ends a run soon, whatever it is at. Imports nothing that takes long.

Python raises KeyboardInterrupt between two of its own instructions, so a long call into native code
and its clean-up delay the exit. A thread of its own watches for Ctrl+C and gives the rest of the
process GRACE_S; then it removes what is half written and ends it. Further signals change nothing:
they would only break off the clean-up. SIGTERM does the same in a program that has a handler of its
own for it. A process that ends by itself before that leaves out the last thing Python does, which
is to take apart every module: with PyTorch and Gradio that alone takes two seconds.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import psutil

GRACE_S = 0.6
"""Seconds between Ctrl+C and the end of the process at the latest."""
ABANDONED_S = 3600.0
"""Seconds without a change after which the folder of an ended process is removed."""
_TURN_S = 0.02
_FOLDER = re.compile(r"\.nbp-(\d{1,9})(-\w+)?\.part")
STATUS = 130
"""Exit status after Ctrl+C, as shells have it."""
_STATUSES: dict[int, int] = {signal.SIGINT: STATUS, signal.SIGTERM: 0}
"""Exit statuses after the signals that end a process; a service that was told to end did well."""
_unfinished: set[Path] = set()


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """While this lasts, an end by Ctrl+C removes the file or the folder."""
    _unfinished.add(path)
    try:
        yield
    finally:
        _unfinished.discard(path)


def unfinished_path(parent: Path) -> Path:
    """A new hidden name in a folder. Processes in containers often have the same number, so the
    number alone is no name."""
    return parent / f".nbp-{os.getpid()}-{secrets.token_hex(8)}.part"


@contextlib.contextmanager
def unfinished_folder(parent: Path) -> Iterator[Path]:
    """A new hidden folder in `parent` for files that belong together; it is removed at the end.

    Folders that processes left which were killed are removed before.
    """
    remove_abandoned(parent, _FOLDER)
    folder = unfinished_path(parent)
    with unfinished(folder):
        folder.mkdir()
        try:
            yield folder
        finally:
            _remove(folder)


def remove_abandoned(parent: Path, name: re.Pattern[str]) -> None:
    """Removes the folders of ended processes that nothing has written to for a while.

    `name` matches the names of such folders; its first group is the number of the process.
    Another machine or container may write into the same folder, and its processes are not known
    here.
    """
    for folder in parent.glob("*"):
        match = name.fullmatch(folder.name)
        if match and folder.is_dir() and not folder.is_symlink():
            with contextlib.suppress(OSError):
                changed = max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
                if time.time() - changed > ABANDONED_S and _has_ended(int(match[1]), changed):
                    _remove(folder)


def _has_ended(pid: int, when: float) -> bool:
    """Whether the process of this number at that time has ended; a later one may have it now."""
    try:
        return psutil.Process(pid).create_time() > when
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def ignored() -> Iterator[None]:
    """While this lasts, the process ignores Ctrl+C; one that it starts now ignores it for good."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _end_children() -> None:
    """Ends the processes that this one has started, and theirs."""
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            # Python's own tracker of semaphores cleans up by itself.
            if not any("resource_tracker" in part for part in child.cmdline()):
                child.kill()


def end_soon_after_ctrl_c(tidy: Callable[[], None] = lambda: None) -> None:
    """From now on, Ctrl+C ends the process in GRACE_S at the latest, with STATUS; SIGTERM with 0.

    `tidy` is called before an end that came by force. Only the main thread may call this.
    """
    ending: SimpleQueue[int] = SimpleQueue()
    for number in _STATUSES:
        if callable(handler := signal.getsignal(number)):
            signal.signal(number, partial(_end_by, handler, ending))
    # The system's own handler writes the number of each signal into the socket at once.
    heard, said = socket.socketpair()
    said.setblocking(False)
    signal.set_wakeup_fd(said.fileno(), warn_on_full_buffer=False)
    # What is registered first is called last.
    atexit.register(_leave_after, ending)
    arguments = (heard, said, ending, tidy)
    threading.Thread(target=_watch, args=arguments, daemon=True).start()


def _end_by(
    handler: Callable[[int, Any], object], ending: SimpleQueue[int], number: int, frame: object
) -> None:
    # Known here, since the thread that watches may have its turn much later on a busy machine.
    ending.put(_STATUSES[number])
    for further in _STATUSES:
        signal.signal(further, signal.SIG_IGN)
    handler(number, frame)


def _leave_after(ending: SimpleQueue[int]) -> None:
    with contextlib.suppress(Empty):
        # A handler that was set later says nothing here; the thread that watches does.
        status = ending.get(timeout=_TURN_S)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(status)


def _watch(
    heard: socket.socket,
    said: socket.socket,
    ending: SimpleQueue[int],
    tidy: Callable[[], None],
) -> None:
    # Holds `said` too, which would be closed without an owner.
    status = None
    while status is None:
        status = next((_STATUSES[n] for n in heard.recv(64) if n in _STATUSES), None)
    ending.put(status)
    time.sleep(GRACE_S)
    for path in list(_unfinished):
        _remove(path)
    with contextlib.suppress(Exception):
        tidy()
    with contextlib.suppress(Exception):
        _end_children()
    with contextlib.suppress(OSError):
        # Not by sys.stderr, which another thread may hold.
        os.write(2, b"stopped\n")
    os._exit(status)
