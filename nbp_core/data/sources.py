"""Folders of training data: fingerprints of their content, checks, and reports of skipped files.

Knows nothing of torch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import lzma
import mimetypes
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePath

from nbp_core.media.files import MediaError, printable_name, shown_name

VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".webm", ".mkv", ".avi", ".ogv", ".mpg", ".mpeg",
    ".vob", ".m1v", ".m2v", ".ts", ".mts", ".m2ts", ".dv", ".mxf", ".wmv", ".asf", ".flv", ".f4v",
    ".qt", ".divx", ".ogm", ".nut", ".h264", ".264", ".h265", ".265", ".hevc", ".obu", ".y4m",
    ".ivf", ".gif", ".webp", ".avif", ".apng",
})  # fmt: skip
"""Suffixes of files that may be clips (videos, animated pictures); the content decides."""
PICTURE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".png", ".webp", ".avif", ".heic", ".heif", ".hif", ".tif", ".tiff", ".bmp",
    ".gif",
})  # fmt: skip
SHARD_SUFFIX = ".tar"

_TAR_DAMAGE = (tarfile.TarError, OSError, EOFError, ValueError, zlib.error, lzma.LZMAError)
"""What reading a damaged shard raises, also of one that somebody compressed."""
UNKNOWN_MEMBER = "they are neither a clip (.mp4) nor a label (.json)"
"""Why a file of a shard is not opened."""

_MOST_NAMES = 5
_TEXT_TYPES = ("text/", "application/json")
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini"})

_log = logging.getLogger(__name__)


def folder_fingerprint(folder: Path) -> str:
    """A hash of the names, sizes and times of a folder's clips, pictures and shards. It does not
    depend on where the folder is. Raises MediaError if the folder does not exist."""
    if not folder.is_dir():
        raise MediaError(f"there is no folder {printable_name(folder)!r}.")
    kinds = VIDEO_SUFFIXES | PICTURE_SUFFIXES | {SHARD_SUFFIX}
    # The sub-folder of an action may be a link, into which rglob does not go.
    found = {*folder.rglob("*"), *folder.glob("*/*")}
    files = [path for path in found if path.suffix.lower() in kinds and path.is_file()]
    facts = [
        (path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(files)
    ]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def check_actions(train: Iterable[str], val: Iterable[str]) -> None:
    """Raises MediaError if a validation clip shows an action that no training clip shows."""
    unseen = sorted(set(val) - set(train))
    if unseen:
        raise MediaError(
            f"action {unseen[0]!r} has a validation clip but no training clip that can be read: "
            "add clips of it, or take it out."
        )


def report_skipped(files: Iterable[PurePath], where: str, reason: str) -> None:
    """Logs one line that counts the files of a folder or shard that are not opened.

    The line names a few of them. Hidden files, texts and labels do not count, since nobody expects
    them to be used as clips.
    """
    names = [shown_name(path) for path in files if not _is_companion(path)]
    if not names:
        return
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    _log.warning(
        "%d file%s of %s skipped, because %s: %s%s",
        len(names), "s" if len(names) > 1 else "", where, reason,
        ", ".join(names[:_MOST_NAMES]), more,
    )  # fmt: skip


@contextlib.contextmanager
def open_shard(path: Path, content: str) -> Iterator[tarfile.TarFile]:
    """Opens a shard of `content`, such as "clips".

    Raises MediaError if it is not a tar, or if reading it inside the `with` meets damage.
    """
    try:
        if not path.is_file():  # a named pipe would be waited for
            raise tarfile.ReadError(f"{path.name} is not a file")
        with tarfile.open(path) as tar:
            yield tar
    except _TAR_DAMAGE as error:
        raise MediaError(f"{path.name} is not a tar of {content}, or is damaged.") from error


def read_member(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> bytes:
    """The content of a file; empty for a member that is no file, such as a broken link."""
    if member is None:
        return b""
    try:
        # A link is followed by name: older Pythons look for its own record among those of `tar`.
        file = tar.extractfile(member if member.isfile() else member.name)
    except (KeyError, RecursionError):  # a link that leads nowhere, or to itself
        return b""
    return b"" if file is None else file.read()


def unknown_members(members: Iterable[tarfile.TarInfo]) -> list[PurePath]:
    """The files of a shard that are neither clips nor labels."""
    return [
        PurePath(member.name)
        for member in members
        if member.isfile() and not member.name.endswith((".mp4", ".json"))
    ]


def _is_companion(path: PurePath) -> bool:
    kind = mimetypes.guess_type(path.name)[0] or ""
    is_ours = path.name.startswith(".") or path.name.lower() in _SYSTEM_FILES
    return is_ours or kind.startswith(_TEXT_TYPES)
