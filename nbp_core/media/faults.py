"""What ffmpeg's log says is wrong with the frames of a file."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nbp_core.media import ffmpeg
from nbp_core.media.describe import Source, Stream

DAMAGED = "is damaged: some of its frames cannot be decoded whole"
_DAMAGE = re.compile(
    r"corrupt decoded frame|Error submitting packet to decoder|CRC mismatch"
    r"|first frame (?:is no|not a) keyframe"
)
_FIRST_FRAME = "[info] Output #"
"""The start of the log line that follows the decoding of the first frame."""
_UNSUPPORTED = re.compile(
    r"Impossible to convert between|\] \[error\] Unsupported input \("
    r"|\[Parsed_zscale_\d+ @ \w+\] \[error\] code "
)
"""What the filters say of colours that they cannot convert."""
_CODEC_ERROR = re.compile(
    r"^\[(?P<codec>\w+) @ \w+\] \[error\] (?!overread|.*\bEXIF\b)", re.MULTILINE
)
_MARKING_CODECS = frozenset({
    "h264", "hevc", "vvc", "mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v3", "wmv2", "h263", "flv",
    "vp8", "vp9", "av1", "libdav1d", "libvpx", "theora",
})  # fmt: skip
"""Codecs that mark incomplete frames, and whose other errors are often harmless."""
_CHANGED = re.compile(
    r"Reconfiguring filter graph because video parameters changed to (\w+)\(.*?, (\d+)x(\d+)"
)
_KEPT = re.compile(
    r"filter context - w: (\d+) h: (\d+) fmt: (\d+) .*"
    r"incoming frame - w: (?!\1 h: \2 fmt: \3 )"
)
"""A frame of another size or pixel format, in a run that keeps its filters."""


def fault_of(log: Sequence[str], sources: Sequence[Source]) -> str | None:
    """The fault of the frames themselves, as the end of a sentence; None for none."""
    codecs = {stream.codec for source in sources for stream in source.streams}
    decoding = _decoding(log)
    if _CHANGED.search(decoding) or _KEPT.search(decoding):
        return "changes its size or pixel format midway, which is not supported"
    if ffmpeg.NO_SPACE in decoding:
        return "cannot be read: there is no space for its frames on the disk"
    if "Cannot allocate memory" in decoding:
        return "cannot be read: its frames take too much memory"
    if _UNSUPPORTED.search(decoding):
        return "has colours of a kind that is not supported"
    return DAMAGED if _is_damaged(decoding, codecs - _MARKING_CODECS) else None


def _decoding(log: Sequence[str]) -> str:
    """The part of a log that is about the frames, not the inputs."""
    return "\n".join(log[log.index(ffmpeg.INPUTS_OPEN) :]) if ffmpeg.INPUTS_OPEN in log else ""


def changes_its_tags(log: Sequence[str], stream: Stream | None) -> bool:
    """Whether the frames change midway, but neither in size nor in pixel format."""
    changes = set(_CHANGED.findall(_decoding(log)))
    return stream is not None and changes == {
        (stream.pixels, str(stream.width), str(stream.height))
    }


def is_damaged_at_first(log: Sequence[str]) -> bool:
    """Whether a frame before the first whole one is marked as damaged."""
    return _DAMAGE.search(_decoding(log).partition(_FIRST_FRAME)[0]) is not None


def _is_damaged(log: str, codecs: set[str]) -> bool:
    """Whether a frame is marked as damaged, or one of these codecs, which mark none, failed."""
    errors = {error["codec"] for error in _CODEC_ERROR.finditer(log)}
    return bool(errors & codecs) or _DAMAGE.search(log) is not None
