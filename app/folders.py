"""Folders that only this user can read: what a studio makes, and what is uploaded to it."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import re
import shutil
import tempfile
import threading
import time
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.routes import UPLOAD
from nbp_core.interrupt import ABANDONED_S, remove_abandoned
from nbp_core.media.files import is_full

LOOK_BYTES = 8_000_000
"""Bytes of an upload after which the size of all uploads is looked at again."""
SPARED_S = 300.0
"""Uploads of this age are not deleted for a new one: their visitors have just chosen them."""

_PREFIX = "nbp-studio-"
_NAME = re.compile(rf"{_PREFIX}(\d{{1,9}})-.*")
_TOUCH_S = ABANDONED_S / 6
_made = set[Path]()
_FULL = "The studio's disk has no space left for this file."


class Uploads:
    """The folder of Gradio's uploads. By default Gradio uses one in /tmp that other programs share.

    Gradio looks for one folder in a process, for every file that it serves. So all studios of a
    process share it, and it goes with the last of them.
    """

    def __init__(self) -> None:
        self._folder = Path()
        self._owners = dict[Path, int]()
        self._lock = threading.Lock()

    def open(self, owner: Path, max_bytes: int) -> Path:
        """The folder, which stays at least until this owner closes it.

        max_bytes: its limit for uploads; of several owners the largest counts.
        """
        with self._lock:
            if not self._owners:
                self._folder = private_folder().resolve()  # as Gradio names files in it
                os.environ["GRADIO_TEMP_DIR"] = str(self._folder)
            self._owners[owner] = max_bytes
            return self._folder

    def mend(self) -> None:
        """Makes the folder again if it was removed, as systems do with what nobody used for days.

        Gradio would make it again by itself, but for all to read.
        """
        with self._lock:
            if self._owners:
                keep_private(self._folder)

    def make_room(self, num_more: int = 0) -> None:
        """Deletes the oldest uploads, but for those of the last minutes, until more bytes fit.

        Raises OSError, as a full disk does, and deletes nothing, where they never will.
        """
        with self._lock:
            folder, limits = self._folder, list(self._owners.values())
        if not limits:
            return
        most = max(limits) - num_more
        newest = time.time() - SPARED_S
        if sum(size for _, size, changed in _files((folder,)) if changed > newest) > most:
            raise OSError(errno.ENOSPC, "the uploads have reached their limit")
        trim(most, folder, newest=newest)

    def holds(self, name: str) -> bool:
        """Whether this is the full path of something in the folder, also once links are followed.

        The disk is only asked about names in the folder: Windows would sign in to another machine
        for one such as //machine/share/file.
        """
        path = Path(name)
        with self._lock:
            folder = self._folder if self._owners else None
        if folder is None or not path.is_relative_to(folder):
            return False
        try:
            return path.resolve().is_relative_to(folder.resolve())
        except (OSError, ValueError):  # a name that no system takes
            return False

    def close(self, owner: Path) -> None:
        """Removes the folder when nobody else has it open."""
        with self._lock:
            was_open = owner in self._owners
            self._owners.pop(owner, None)
            if was_open and not self._owners:
                os.environ.pop("GRADIO_TEMP_DIR", None)
                shutil.rmtree(self._folder, ignore_errors=True)


UPLOADS = Uploads()
"""The uploads of this process."""


class MendsUploads:
    """Sees to the folder for uploads before every request, and says when it is full."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hands every request on; answers 507 to an upload that there is no space for."""
        is_read = False

        async def read() -> Message:
            nonlocal is_read
            message = await receive()
            is_read = not message.get("more_body", False)
            return message

        num_unseen = 0

        async def read_upload() -> Message:
            nonlocal num_unseen
            message = await read()
            num_unseen += len(message.get("body", b""))
            if num_unseen > LOOK_BYTES:
                num_unseen = 0
                await run_in_threadpool(UPLOADS.make_room)
            return message

        is_upload = scope["type"] == "http" and scope["path"].endswith(UPLOAD)
        try:
            UPLOADS.mend()
            if is_upload:
                length = Headers(scope=scope).get("content-length", "")
                await run_in_threadpool(UPLOADS.make_room, int(length) if length.isdecimal() else 0)
            await self.app(scope, read_upload if is_upload else read, send)
        except OSError as error:
            if not is_full(error) or scope["type"] != "http":
                raise
            # The rest of it is read, or the browser would report a broken connection instead.
            while not is_read:
                await read()
            await PlainTextResponse(_FULL, 507)(scope, receive, send)


def private_folder() -> Path:
    """A new folder that only this user can read; those of studios that were killed are removed."""
    remove_abandoned(Path(tempfile.gettempdir()), _NAME)  # the system refuses another user's
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    if not _made:
        threading.Thread(target=_touch, name="fresh folders", daemon=True).start()
    _made.add(folder)
    return folder


def _touch() -> None:
    """Shows studios in other containers, which do not see this process, that it still runs."""
    while True:
        time.sleep(_TOUCH_S)
        for folder in list(_made):
            with contextlib.suppress(OSError):  # those that were removed
                os.utime(folder)


def keep_private(folder: Path) -> Path:
    """The folder itself, made again if it is gone, and readable by this user only.

    Raises OSError where somebody else's folder, or a link, has taken its place.
    """
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    if folder.is_symlink() or not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    if os.name == "posix" and folder.stat().st_mode & 0o077:
        folder.chmod(0o700)  # refused by the system when it is another user's
    return folder


def file_stem(text: str) -> str:
    """The text as the beginning of a file's name: letters, digits, dots, - and _ alone.

    It is cut to 80 bytes, since systems refuse names of more than 255.
    """
    return re.sub(r"[^\w.-]+", "-", text).encode()[:80].decode(errors="ignore")


def file_bytes(path: Path) -> int:
    """Size of a file; 0 for one that has gone, such as the target of a broken link."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def num_bytes(*folders: Path) -> int:
    """Total size of all files in the folders and their subfolders."""
    return sum(size for _, size, _ in _files(folders))


def oldest_first(folder: Path) -> list[Path]:
    """What lies in a folder, by the time of its last change; some may vanish meanwhile."""
    changed = []
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            changed.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(changed)]


def trim(max_bytes: int, *folders: Path, newest: float = math.inf) -> None:
    """Deletes the oldest files of the folders and all below them until what is left fits.

    Files that were changed after the time `newest` stay in any case.
    """
    files = _files(folders)
    total = sum(size for _, size, _ in files)
    for path, size, changed in sorted(files, key=lambda file: file[2]):
        if total <= max_bytes or changed > newest:
            return
        path.unlink(missing_ok=True)
        total -= size


def _files(folders: tuple[Path, ...]) -> list[tuple[Path, int, float]]:
    """(path, bytes, time of the last change) of every file below; some may vanish meanwhile."""
    files = []
    # Path.rglob would fail at a folder that vanishes.
    names = (
        Path(at, name) for folder in folders for at, _, them in os.walk(folder) for name in them
    )
    for path in names:
        with contextlib.suppress(OSError):
            stat = path.stat()
            files.append((path, stat.st_size, stat.st_mtime))
    return files
