"""What a video file holds, by ffmpeg's log: its streams, their size, colours and turn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nbp_core.media import ffmpeg

_INPUT = re.compile(r"\[info\] Input #(\d+), (\S+), ")
_DURATION = re.compile(r"\[info\]   Duration: (\d+):(\d\d):(\d\d\.\d+)")
_STREAM = re.compile(
    r"\[info\] +Stream #\d+:(?P<index>\d+)[^:]*: Video: (?P<codec>\w+).*?"
    r", (?P<pixels>\w+)(?:\((?P<tags>(?:[^()]|\([^)]*\))*+)\))?"
    r", (?P<width>\d+)x(?P<height>\d+)(?P<rest>\D.*|)$"
)
_UNSIZED = re.compile(r"\[info\] +Stream #\d+:(?P<index>\d+)[^:]*: Video: (?P<codec>\w+)")
"""A video stream of which nothing could be decoded, perhaps beside others."""
_LAYER = re.compile(r"\[info\]     +alpha_mode +: 1$")
_TURN = re.compile(r"\[info\] +Display Matrix: rotation of (-?)90\.")
_RATE = re.compile(r", ([\d.]+)(k?) fps")
_COLOURS = re.compile(
    r"(?P<matrix>[\w-]+)/(?P<primaries>[\w-]+)/(?P<transfer>[\w-]+)"
    r"|(?P<all>bt709|bt470m|bt470bg|smpte170m|smpte240m)"
)
"""Tags of colour, among tags of range, field order and chroma location."""
LAYER_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders for the transparency of WebM, which is a second picture with each frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """A video stream as ffmpeg describes it; tags that are not set are 'unknown'."""

    index: int
    codec: str
    pixels: str = "none"
    """ffmpeg's name of the format of its pixels."""
    width: int = 0
    """0 where nothing of it could be decoded."""
    height: int = 0
    matrix: str = "unknown"
    primaries: str = "unknown"
    transfer: str = "unknown"
    fps: float | None = None
    is_default: bool = False
    has_layer: bool = False
    """Whether its transparency is a separate layer."""
    is_opaque: bool = False
    """Whether the fourth byte of its pixels means nothing."""
    is_interlaced: bool = False
    """Whether its header says so."""
    turn: str | None = None
    """The direction in which ffmpeg turns it by 90 degrees, by ffmpeg's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The content of a file; `seconds` is the duration in its header, if any."""

    container: str = ""
    """ffmpeg's name or names of the format."""
    seconds: float | None = None
    streams: tuple[Stream, ...] = ()

    @property
    def stream(self) -> Stream | None:
        """The stream to decode: the file's default, else the largest."""
        sized = [stream for stream in self.streams if stream.width]
        return max(sized, key=lambda s: (s.is_default, s.width * s.height), default=None)


def describe(path: Path) -> Source:
    """The content of a file by its header and first frame; Source() if there is none to decode."""
    arguments: list[ffmpeg.Argument] = [*ffmpeg.PROTECTED, "-i", ffmpeg.file_url(path.absolute())]
    # Without an output, the run ends after its description of the input.
    ended = ffmpeg.run_logged(arguments, lambda log: True, "info")
    return described(ended.log, 1)[0]


def described(log: Sequence[str], count: int) -> list[Source]:
    """The description of each input in the log."""
    found = [Source() for _ in range(count)]
    number = -1
    for line in log:
        if match := _INPUT.match(line):
            number = min(int(match[1]), count - 1)
            found[number] = replace(found[number], container=match[2])
        elif line.startswith("[info] Output #"):
            break
        elif number >= 0:
            found[number] = _with_line(found[number], line)
    return found


def _with_line(source: Source, line: str) -> Source:
    if match := _DURATION.match(line):
        hours, minutes, seconds = match.groups()
        return replace(source, seconds=3600 * int(hours) + 60 * int(minutes) + float(seconds))
    if "(attached pic)" in line:
        return source
    if match := _STREAM.match(line):
        # In AVI, the fourth byte of a pixel is unused (BI_RGB).
        is_opaque = source.container == "avi" and match["codec"] == "rawvideo"
        stream = replace(_stream(match), is_opaque=is_opaque)
        return replace(source, streams=(*source.streams, stream))
    if match := _UNSIZED.match(line):
        unsized = Stream(index=int(match["index"]), codec=match["codec"])
        return replace(source, streams=(*source.streams, unsized))
    if source.streams:
        *others, last = source.streams
        if _LAYER.match(line) and last.codec in LAYER_DECODERS:
            return replace(source, streams=(*others, replace(last, has_layer=True)))
        if match := _TURN.match(line):
            turned = replace(last, turn="clock" if match[1] else "cclock")
            return replace(source, streams=(*others, turned))
    return source


def _stream(match: re.Match[str]) -> Stream:
    tags = (match["tags"] or "").split(", ")
    colours = next(filter(None, map(_COLOURS.fullmatch, tags)), None)
    matrix, primaries, transfer = (
        (colours["all"] or colours[name] if colours else "unknown")
        for name in ("matrix", "primaries", "transfer")
    )
    rate = _RATE.search(match["rest"])
    return Stream(
        index=int(match["index"]),
        codec=match["codec"],
        pixels=match["pixels"],
        width=int(match["width"]),
        height=int(match["height"]),
        matrix=matrix,
        primaries=primaries,
        transfer=transfer,
        fps=float(rate[1]) * (1000 if rate[2] else 1) if rate else None,
        is_default="(default)" in match["rest"],
        is_interlaced=any(" first" in tag for tag in tags),
    )
