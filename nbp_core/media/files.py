"""Checks untrusted files before they are decoded, and writes files completely or not at all.

The checks decide what kind a file is, how its name is shown and how large it may be.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nbp_core.config.json import reason
from nbp_core.interrupt import unfinished, unfinished_path

Frames = npt.NDArray[np.uint8]

MAX_PIXELS = 64_000_000
"""Largest picture or video frame that is decoded, in pixels."""
MAX_FRAME_PIXELS = 2**20
"""A larger picture or frame is reduced to this many pixels, since models see 128 x 128 pixels."""
MAX_DECODED_BYTES = 2**30
"""Largest clip that is decoded whole. Of a longer one a limited number of frames can be read."""
_LONGEST_SHOWN = 80

# FFmpeg also opens playlists, which name other files and addresses: only real containers pass.
_VIDEO_MAGIC = re.compile(
    rb"....(ftyp(?!avif|avis|hei[cxms]|hev[cxms]|mif1|msf1)|moov|mdat|wide|free|skip|pnot"
    rb"|styp|sidx|pdin|uuid)"
    rb"|\x1a\x45\xdf\xa3|RIFF....AVI |OggS|FLV\x01|DKIF|YUV4MPEG2 |nut/multimedia container"
    # MPEG program streams and elementary streams of MPEG-2, H.264, HEVC, VVC and AV1
    rb"|(?!....ftyp)\x00{2,}\x01([\xba\xb3\x67\x27\x40\x09\x46\x06\x4e]|\x00[\x71\x79\xa1])"
    rb"|\x12\x00\x0a"
    # MPEG transport streams, also cut anywhere in a packet of one of three lengths
    rb"|\x47.{187}\x47|.{4}\x47.{191}\x47"
    rb"|(?!\x89PNG|\xff\xd8|GIF8|RIFF|BM|II|MM|P[1-7fF]|....ftyp)"
    rb".{0,203}?\x47((.{187}\x47){3}|(.{191}\x47){3}|(.{203}\x47){3})"
    # DV, MXF and Windows Media
    rb"|\x1f\x07\x00|\x06\x0e\x2b\x34\x02\x05\x01\x01|\x30\x26\xb2\x75\x8e\x66\xcf\x11",
    re.DOTALL,
)
_HEAD_BYTES = 2048


class MediaError(ValueError):
    """A picture or video that cannot be read or written, in one plain sentence."""


def printable_name(path: str | os.PathLike[str]) -> str:
    """The name of a file or folder as text that can be shown, stored and sent."""
    name = Path(path).name
    try:
        text = os.fsencode(name).decode(errors="replace")
    except UnicodeEncodeError:
        text = name.encode(errors="replace").decode()
    return "".join(
        letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text
    )


def shown_name(path: str | os.PathLike[str]) -> str:
    """printable_name, shortened in the middle if it is too long for a sentence."""
    name = printable_name(path)
    if len(name) <= _LONGEST_SHOWN:
        return name
    return f"{name[: _LONGEST_SHOWN - 20]}\N{HORIZONTAL ELLIPSIS}{name[-19:]}"


def is_video(path: Path) -> bool:
    """Whether the file begins like a video. Raises MediaError if it cannot be read."""
    name = shown_name(path)
    try:
        if path.is_dir():
            raise MediaError(f"{name} is a folder, not a picture or a video.")
        if not path.exists():
            raise MediaError(f"{name} does not exist.")
        if not path.is_file():
            raise MediaError(f"{name} is neither a file nor a folder.")
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise MediaError(f"{name} cannot be read: {reason(error)}.") from error
    if not head:
        raise MediaError(f"{name} is empty.")
    return _VIDEO_MAGIC.match(head) is not None


def too_large(path: Path, width: int, height: int, most: int = MAX_PIXELS) -> MediaError | None:
    """The error for a picture or frame of more than `most` pixels, None for a smaller one."""
    if width * height <= most:
        return None
    return MediaError(
        f"{shown_name(path)} is too large: {width} x {height} pixels, and the limit is"
        f" {most // 1_000_000} megapixels."
    )


def too_long(path: Path) -> MediaError:
    """The error for a clip whose frames take more than MAX_DECODED_BYTES."""
    limit = f"{MAX_DECODED_BYTES / 2**30:g} GiB"
    return MediaError(
        f"{shown_name(path)} is too long: its frames take more than {limit} of memory."
    )


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it at the end and removed after any error.

    Raises MediaError if the system refuses the name, the folder or more data.
    """
    name = shown_name(path)
    # Without the file's own name, with which it could exceed the longest allowed name.
    temporary = unfinished_path(path.parent)
    try:
        if not path.parent.is_dir():
            raise MediaError(f"{name} cannot be written: its folder does not exist.")
        if path.is_dir():
            raise MediaError(f"{name} cannot be written: it is a folder.")
        try:
            with unfinished(temporary):
                yield temporary
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise MediaError(f"{name} cannot be written: {reason(error)}.") from error


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it was raised from, is a full disk or a used-up quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__
    return False


def try_writing(path: Path) -> None:
    """Checks that a file can be written, before the work whose result it will hold.

    An existing file is not changed. Raises MediaError as replacing does.
    """
    with contextlib.suppress(_TriedError), replacing(path) as temporary:
        temporary.touch()
        raise _TriedError


class _TriedError(Exception):
    """Ends a trial: the temporary file goes, and nothing is replaced."""


def write_text(path: Path, text: str) -> None:
    """Writes a text file completely or not at all. Raises MediaError as replacing does."""
    with replacing(path) as temporary:
        temporary.write_text(text)
