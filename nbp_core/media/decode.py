"""Decodes videos: upright, in their display aspect, as sRGB on white, by time.

One run of ffmpeg decodes a file. Before decoding, it logs a description of the file. If that
requires other filters than the usual ones (untagged HD, HDR, transparency in a separate layer, a
window of a long clip), the run is stopped and another one is started with these filters.
Shape letters: T H W frames and pixels, C colour.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nbp_core.cgroup import cores
from nbp_core.config.json import reason
from nbp_core.media import ffmpeg
from nbp_core.media.describe import LAYER_DECODERS, Source, described
from nbp_core.media.faults import DAMAGED, changes_its_tags, fault_of, is_damaged_at_first
from nbp_core.media.files import (
    MAX_DECODED_BYTES,
    MAX_PIXELS,
    Frames,
    MediaError,
    shown_name,
    too_large,
    too_long,
)
from nbp_core.media.filters import Take, filters

_SMALL_BYTES = 2**18
"""A smaller file is decoded by one thread, since starting more takes longer than they save."""
_MAX_THREADS = 4
_UNINDEXED = ("mpeg", "mpegts")
"""Containers that do not say which frames are keyframes, nor the time of every frame."""
_LEAD_SECONDS = 10.0
"""Seconds that are decoded before a window of such a container, to know its frames and times."""
_ANY_STREAM = "  Stream #"
_COUNT = re.compile(r"\[Parsed_fps_\d+ @ .*\] (\d+) frames in, ")
_FROM_KEYFRAME = r"noise=drop=not(st(0\,ld(0)+key))"
"""Drops packets until one holds a keyframe."""
_NO_DECODER = "Decoding requested, but no decoder found"
_PAM = re.compile(
    rb"P7\nWIDTH (\d+)\nHEIGHT (\d+)\nDEPTH ([34])\nMAXVAL 255\nTUPLTYPE \w+\nENDHDR\n"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decoded:
    """The frames_THWC of a take, the description of their file, and its number of frames seen."""

    frames_THWC: Frames
    source: Source
    num_seen: int


class NoFrameError(MediaError):
    """A take that found no frame at all."""


Plan = Callable[[Source], Take]
"""Chooses a take from the description of a file; Source() is that of an unknown file."""


def decode(path: Path, plan: Plan) -> Decoded:
    """Decodes frames of one video. Raises MediaError, one sentence, if it cannot be read."""
    (decoded,) = decode_many([path], plan)
    if isinstance(decoded, MediaError):
        raise decoded
    return decoded


def decode_many(paths: Sequence[Path], plan: Plan) -> Iterator[Decoded | MediaError]:
    """Decodes short videos in one run, in order; one run for many takes little longer than for one.

    A video that cannot be read gives a MediaError in place of its frames.
    """
    if len(paths) > 1:
        with _outputs(len(paths)) as outputs:
            ended = None
            with contextlib.suppress(OSError):  # a command that is too long for the system
                ended, sources = _run(paths, outputs, plan)
            if ended and ended.status == 0 and not fault_of(ended.log, sources):
                # The log of many says how many frames were seen, but not of which.
                silent = replace(ended, log=[])
                for job in zip(paths, outputs, sources, strict=True):
                    yield _result(*job, silent)
                return
    # One bad file ends the run of all, and the log does not say which one it was.
    for path in paths:
        try:
            yield _decode_one(path, plan)
        except OSError as error:
            yield MediaError(f"{shown_name(path)} cannot be read: {reason(error)}.")


def _decode_one(path: Path, plan: Plan) -> Decoded | MediaError:
    with _outputs(1) as outputs:
        ended, sources = _run([path], outputs, plan)
        if changes_its_tags(ended.log, sources[0].stream):
            plan = _keeping_filters(plan)
            ended, sources = _run([path], outputs, plan)
        if is_damaged_at_first(ended.log):
            # It may begin between two keyframes, as a cut or a recorded broadcast does.
            plan = _from_keyframe(plan)
            ended, sources = _run([path], outputs, plan)
        if fault_of(ended.log, sources) == DAMAGED and plan(sources[0]).fps:
            # The damage may be beyond the frames that are taken, since how far a run reads ahead is
            # random. So the file is read again, only up to their end.
            ended, sources = _run([path], outputs, _limited(plan))
        return _result(path, outputs[0], sources[0], ended)


def _keeping_filters(plan: Plan) -> Plan:
    return lambda source: replace(plan(source), keeps_filters=True)


def _from_keyframe(plan: Plan) -> Plan:
    return lambda source: replace(plan(source), is_from_keyframe=True)


def _limited(plan: Plan) -> Plan:
    def limited(source: Source) -> Take:
        take = plan(source)
        return replace(take, seconds=take.count / take.fps if take.fps else None)

    return limited


@contextlib.contextmanager
def _outputs(count: int) -> Iterator[list[Path]]:
    with tempfile.TemporaryDirectory(prefix="nbp-", ignore_cleanup_errors=True) as folder:
        yield [Path(folder, f"{index}.pam") for index in range(count)]


def _run(
    paths: Sequence[Path], outputs: Sequence[Path], plan: Plan
) -> tuple[ffmpeg.Ended, list[Source]]:
    sources = [Source()] * len(paths)
    commands = [_command(*job, plan) for job in zip(paths, sources, strict=True)]

    def is_wanted(log: list[str]) -> bool:
        nonlocal sources, commands
        before = commands
        sources = described(log, len(paths))
        commands = [_command(*job, plan) for job in zip(paths, sources, strict=True)]
        return commands == before

    # The verbose log says how many frames a file has, and takes time to read.
    level = "verbose" if len(paths) == 1 else "info"
    ended = ffmpeg.run_logged(_arguments(commands, outputs), is_wanted, level)
    if ended.is_unwanted:
        ended = ffmpeg.run_logged(_arguments(commands, outputs), lambda log: True, level)
    elif not any(source.streams for source in sources):
        # The run ended before all inputs were open.
        sources = described(ended.log, len(paths))
    return ended, sources


@dataclass(frozen=True, kw_only=True, slots=True)
class _Command:
    """Arguments of ffmpeg for one file: before and after its name, and the stream to map."""

    before: tuple[str, ...]
    url: bytes
    stream: str
    after: tuple[str, ...]


def _command(path: Path, source: Source, plan: Plan) -> _Command:
    take, stream = plan(source), source.stream
    lead = _lead(source, take)
    cut = f"trim={lead:.3f}," if lead else ""
    is_small = path.stat().st_size < _SMALL_BYTES
    threads = 1 if is_small else min(_MAX_THREADS, cores())
    # "-map V" leaves out cover pictures.
    # fmt: off
    return _Command(
        before=(
            *ffmpeg.PROTECTED, "-max_pixels", str(MAX_PIXELS), "-threads", str(threads),
            *(["-c:v", LAYER_DECODERS[stream.codec]] if stream and stream.has_layer else []),
            *(["-ss", f"{take.start - lead:.3f}"] if take.start > lead else []),
            *(["-t", f"{lead + take.seconds:.3f}"] if take.seconds else []),
            *(["-bsf:v", _FROM_KEYFRAME] if take.is_from_keyframe else []),
            *(["-reinit_filter", "0"] if take.keeps_filters else []),
            "-i",
        ),
        url=ffmpeg.file_url(path.absolute()),
        stream="V:0" if stream is None or stream == source.streams[0] else str(stream.index),
        after=(
            "-filter:v", cut + filters(stream, take), "-fps_mode", "passthrough",
            "-frames:v", str(take.count), "-fs", str(MAX_DECODED_BYTES), "-threads", "1",
            "-c:v", "pam", "-f", "image2pipe",
        ),
    )
    # fmt: on


def _lead(source: Source, take: Take) -> float:
    """Seconds to decode, and to leave out, before a take."""
    return min(take.start, _LEAD_SECONDS) if source.container in _UNINDEXED else 0.0


def _arguments(commands: Sequence[_Command], outputs: Sequence[Path]) -> list[ffmpeg.Argument]:
    arguments: list[ffmpeg.Argument] = ["-y", "-filter_threads", "1"]
    for command in commands:
        arguments += [*command.before, command.url]
    for index, (command, output) in enumerate(zip(commands, outputs, strict=True)):
        arguments += ["-map", f"{index}:{command.stream}", *command.after, ffmpeg.file_url(output)]
    return arguments


def _result(path: Path, output: Path, source: Source, ended: ffmpeg.Ended) -> Decoded | MediaError:
    name = shown_name(path)
    stream = source.stream
    if stream is not None and (large := too_large(path, stream.width, stream.height)):
        return large
    if ended.is_late:
        return MediaError(f"{name} takes too long to read.")
    if stream is None and any(" Audio: " in line for line in ended.log):
        return MediaError(f"{name} has sound but no moving pictures.")
    if not source.streams and any(_ANY_STREAM in line for line in ended.log):
        return MediaError(f"{name} has no moving pictures.")
    if any(_NO_DECODER in line for line in ended.log):
        return MediaError(f"{name} is encoded in a way that is not supported, or is encrypted.")
    if fault := fault_of(ended.log, [source]):
        return MediaError(f"{name} {fault}.")
    frames_THWC = _read_pam(output)
    if frames_THWC is None:
        return NoFrameError(f"{name} is damaged: it has no frame that can be read.")
    if ended.status != 0:
        return MediaError(f"{name} is damaged: it cannot be read to its end.")
    if output.stat().st_size >= MAX_DECODED_BYTES:
        return too_long(path)
    seen = [int(match[1]) for line in ended.log if (match := _COUNT.match(line))]
    num_seen = seen[-1] if seen else len(frames_THWC)
    return Decoded(frames_THWC=frames_THWC, source=source, num_seen=num_seen)


def _read_pam(path: Path) -> Frames | None:
    """frames_THWC of a file of PAM pictures, on white; None if the file is incomplete."""
    data = np.fromfile(path, np.uint8) if path.is_file() else np.empty(0, np.uint8)
    header = _PAM.match(data[:200].tobytes())
    if header is None:
        return None
    width, height, depth = (int(value) for value in header.groups())
    start = header.end()
    length = start + width * height * depth
    if len(data) % length:
        return None
    pictures = data.reshape(-1, length)
    if (pictures[:, :start] != pictures[0, :start]).any():
        return None
    frames_THWC = pictures[:, start:].reshape(-1, height, width, depth)
    return _on_white(frames_THWC) if depth == 4 else np.ascontiguousarray(frames_THWC)


def _on_white(frames_THWC: Frames) -> Frames:
    """RGBA frames (straight alpha) composited onto white."""
    laid_THWC = np.empty((*frames_THWC.shape[:3], 3), np.uint8)
    for frame_HWC, laid_HWC in zip(frames_THWC, laid_THWC, strict=True):
        alpha_HW1 = frame_HWC[..., 3:].astype(np.uint32)
        laid_HWC[:] = (frame_HWC[..., :3] * alpha_HW1 + (255 - alpha_HW1) * 255 + 127) // 255
    return laid_THWC
