"""Runs the ffmpeg that imageio bundles, with limits on time and memory.

Each run is a process of its own, for one job. So memory that a faulty decoder reads by mistake can
only hold data of that job's files, and a crash ends that job alone.
"""

from __future__ import annotations

import errno
import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

import imageio_ffmpeg

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

SECONDS = 120.0
"""Longest time of a run on what others made."""
MAX_MEMORY = 4 * 2**30
_MAX_LOG_LINES = 20_000
_MAX_LINE_BYTES = 4096
# Containers only: playlists and scripts name other files.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,ogg,mpeg,mpegts,mpegvideo,h264,hevc,dv,mxf,flv,"
    "asf,ivf,obu,vvc,nut,yuv4mpegpipe,png_pipe"
)
PROTECTED = ("-protocol_whitelist", "file", "-format_whitelist", _CONTAINERS)
"""Arguments before an input that may be anything."""
NO_SPACE = "No space left on device"
INPUTS_OPEN = "[info] Stream mapping:"
"""The log line between the description of the inputs and the messages of their decoding."""

Argument = str | bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """The end of a run: its exit status (negative: a signal), its log, and who ended it."""

    status: int
    log: list[str]
    is_late: bool = False
    """The time limit ended it."""
    is_unwanted: bool = False
    """The caller ended it, after a look at its inputs."""


def file_url(path: str | os.PathLike[str]) -> bytes:
    """The path as a URL for ffmpeg, which accepts any bytes and never reads it as an option."""
    return b"file:" + os.fsencode(path)


def run(
    arguments: list[Argument], data: bytes | memoryview | None = None, has_time_limit: bool = True
) -> bytes | None:
    """ffmpeg's stdout for `data` on its stdin; None if it fails or takes too long.

    A run that writes frames of ours has no time limit, since it takes longer for more of them.
    Raises OSError (ENOSPC) if the disk has no space for its output.
    """
    try:
        return subprocess.run(
            _command("error", arguments), input=data, capture_output=True, check=True,
            timeout=SECONDS if has_time_limit else None,
        ).stdout  # fmt: skip
    except subprocess.CalledProcessError as error:
        if any(line.endswith(NO_SPACE.encode()) for line in error.stderr.splitlines()):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        return None
    except (OSError, subprocess.SubprocessError):
        return None


def first_bytes(arguments: list[Argument], most: int) -> bytes | None:
    """The first `most` bytes that ffmpeg prints; None when it fails or takes too long.

    A file may hold text without end: the run is ended there.
    """
    try:
        process = subprocess.Popen(
            _command("error", arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
    except OSError:
        return None
    timer = threading.Timer(SECONDS, process.kill)
    timer.daemon = True
    try:
        _limit_memory(process.pid)
        timer.start()
        assert process.stdout is not None
        data = process.stdout.read(most)
        if len(data) == most:
            return data
        return data if process.wait() == 0 else None
    finally:
        process.kill()
        timer.cancel()
        with process:
            pass


def run_logged(
    arguments: list[Argument], is_wanted: Callable[[list[str]], bool], level: str
) -> Ended:
    """Runs ffmpeg for the files that it writes and for its log, of level "info" or "verbose".

    `is_wanted` receives the log once, after all inputs are open and before anything is decoded. If
    it returns False, the run ends there.
    """
    process = subprocess.Popen(
        _command(f"level+{level}", arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    is_late = threading.Event()

    def stop_late() -> None:
        is_late.set()
        process.kill()

    timer = threading.Timer(SECONDS, stop_late)
    timer.daemon = True
    log: list[str] = []
    is_unwanted = is_cut = False
    try:
        _limit_memory(process.pid)
        timer.start()
        assert process.stderr is not None
        for line in _lines(process.stderr):
            if line == INPUTS_OPEN and not is_wanted(log):
                is_unwanted = True
                break
            log.append(line)
            if len(log) == _MAX_LOG_LINES:
                # What it would say of further damage is lost: the run has failed.
                is_cut = True
                break
        else:
            process.wait()
    finally:
        # Does nothing to a process that has ended.
        process.kill()
        timer.cancel()
        with process:
            pass
    return Ended(
        status=process.returncode or int(is_cut),
        log=log,
        is_late=is_late.is_set(),
        is_unwanted=is_unwanted,
    )


def _command(level: str, arguments: list[Argument]) -> list[Argument]:
    program = imageio_ffmpeg.get_ffmpeg_exe()
    return [program, "-nostdin", "-hide_banner", "-nostats", "-v", level, *arguments]


def _lines(stream: IO[bytes]) -> Iterator[str]:
    """The lines of a log, each cut to a bounded length."""
    is_start = True
    while piece := stream.readline(_MAX_LINE_BYTES):
        if is_start:
            yield piece.decode(errors="replace").rstrip("\r\n")
        is_start = piece.endswith(b"\n")


def _limit_memory(pid: int) -> None:
    """Limits the memory that a child process may write to, if the system supports that."""
    if hasattr(resource, "prlimit"):
        try:
            resource.prlimit(pid, resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
        except (OSError, ValueError):
            # It has ended, or a lower limit holds already.
            return
