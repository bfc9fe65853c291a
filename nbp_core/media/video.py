"""PIXELS: reads, writes, crops and resizes pictures and clips. Uses neither torch nor models.

Shape letters: T H W frames and pixels, C colour (RGB). `frames_THWC` is uint8, `clip_CTHW` is
float32 in [0, 1]. Bad input raises MediaError: one sentence that names the file, never its folder.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import imageio.v3 as iio
import numpy as np
from einops import rearrange
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nbp_core.config.shapes import CLIP_FPS, CLIP_SIDE
from nbp_core.interrupt import unfinished
from nbp_core.media import ffmpeg
from nbp_core.media.decode import Decoded, NoFrameError, Plan, decode, decode_many
from nbp_core.media.describe import Source
from nbp_core.media.files import (
    Frames,
    MediaError,
    is_video,
    replacing,
    shown_name,
)
from nbp_core.media.filters import Take
from nbp_core.media.pictures import frame_seconds, open_image, read_frames, read_image

CONTEXT_FRAMES = 5
"""Number of known frames that a model continues; they span half a second."""
_MAX_FRAMES = 100_000
MAX_COMMENT_BYTES = 4_000_000
"""A longer comment is none of ours, and is not read."""
_MAX_LISTING_BYTES = 2 * MAX_COMMENT_BYTES
# In ffmpeg's listing a backslash stands before a line break, '=', ';', '#' and itself. Nothing is
# tried twice ('+' and '*' take all they can for good): otherwise each letter would take memory.
_COMMENT = re.compile(r"^comment=((?:\\.|[^\\\n]++)*+)", re.MULTILINE | re.DOTALL | re.I)
_LATE = 0.01
"""Tolerance in seconds for late frames, since GIF and other formats round times."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """The start of a clip as read_context gives it, and what the file itself has."""

    frames_THWC: Frames
    num_stored: int
    """Number of the file's own frames, up to the end of what was read."""
    stored_fps: float
    is_spread: bool
    """Whether the frames are some of the file's own, evenly spread, since it is too short."""


def read_context(
    path: str | Path, max_frames: int | None = None, min_frames: int | None = None
) -> Frames:
    """The start of a video or animated picture as frames_THWC uint8, CLIP_FPS frames per second.

    Each frame is the one on screen at its time. At most `max_frames` are read (None: all). A clip
    that is too short for `min_frames` (None: five, or fewer if `max_frames` is) gives that many of
    its own frames, evenly spread, or all it has. A still picture gives one frame. Raises MediaError
    if the file is none of the three or cannot be read.
    """
    return read_sampled(path, max_frames, min_frames).frames_THWC


def read_sampled(
    path: str | Path, max_frames: int | None = None, min_frames: int | None = None
) -> Sampled:
    """As read_context, with the number and the rate of the file's own frames."""
    path = Path(path)
    count = max_frames or _MAX_FRAMES
    least = min(count, CONTEXT_FRAMES) if min_frames is None else min_frames
    if not is_video(path):
        return _read_animation(path, count, least)
    taken = decode(path, lambda source: Take(count=count, fps=CLIP_FPS))
    is_spread = len(taken.frames_THWC) < least
    return Sampled(
        frames_THWC=_spread(path, taken, least) if is_spread else taken.frames_THWC,
        num_stored=taken.num_seen,
        stored_fps=_fps(taken.source),
        is_spread=is_spread,
    )


def _fps(source: Source) -> float:
    return (source.stream and source.stream.fps) or float(CLIP_FPS)


def read_window(path: str | Path, num_frames: int) -> Frames:
    """`num_frames` frames from the middle of a clip as frames_THWC uint8, CLIP_FPS per second.

    A shorter clip gives frames evenly spread over all of it, some of them twice if it has too few.
    Raises MediaError as read_context does, and for a still picture.
    """
    path = Path(path)
    if not is_video(path):
        return _read_animated_window(path, num_frames)
    plan = _window_plan(num_frames)
    try:
        taken = decode(path, plan)
    except NoFrameError:
        # The file is shorter than its header says, or its times do not begin at 0.
        taken = decode(path, lambda source: plan(Source()))
    return _window(path, taken, num_frames)


def read_windows(paths: Sequence[Path], num_frames: int) -> Iterator[Frames | MediaError]:
    """As read_window for many short videos at once, in order; an error in place of its frames."""
    refused = [_refusal(path) for path in paths]
    videos = [path for path, error in zip(paths, refused, strict=True) if error is None]
    decoded = decode_many(videos, _window_plan(num_frames))
    for path, error in zip(paths, refused, strict=True):
        taken = error or next(decoded)
        try:
            if isinstance(taken, MediaError) and not isinstance(taken, NoFrameError):
                yield taken
            elif isinstance(taken, NoFrameError) or not _is_moving_window(taken, num_frames):
                # Only the run of a single file logs its number of frames.
                yield read_window(path, num_frames)
            else:
                yield _window(path, taken, num_frames)
        except MediaError as late_error:
            yield late_error


def _is_moving_window(taken: Decoded, num_frames: int) -> bool:
    """Whether there are enough frames, and they are not all equal."""
    frames_THWC = taken.frames_THWC
    return len(frames_THWC) >= num_frames and bool((frames_THWC[1:] != frames_THWC[0]).any())


def _refusal(path: Path) -> MediaError | None:
    try:
        return None if is_video(path) else _not_a_video(path)
    except MediaError as error:
        return error


def _not_a_video(path: Path) -> MediaError:
    kinds = "MP4, MOV, WebM, MKV, AVI, MPEG"
    return MediaError(f"{shown_name(path)} is not a video that can be read ({kinds}).")


def _window_plan(num_frames: int) -> Plan:
    seconds = num_frames / CLIP_FPS

    def plan(source: Source) -> Take:
        # A clip of up to two windows is read whole, which keeps its frames at their times.
        if source.seconds is None or source.seconds <= 2 * seconds:
            return Take(count=2 * num_frames, fps=CLIP_FPS)
        return Take(count=num_frames, fps=CLIP_FPS, start=(source.seconds - seconds) / 2)

    return plan


def _window(path: Path, taken: Decoded, num_frames: int) -> Frames:
    if (
        len(taken.frames_THWC) < num_frames
        and (taken.source.seconds or 0) > 2 * num_frames / CLIP_FPS
    ):
        # The file is shorter than its header says.
        plan = _window_plan(num_frames)
        taken = decode(path, lambda source: plan(Source()))
    if taken.num_seen == 1:
        raise MediaError(f"{shown_name(path)} has one frame, which does not move.")
    extra = len(taken.frames_THWC) - num_frames
    if extra < 0:
        return _repeated(_spread(path, taken, num_frames), num_frames)
    return taken.frames_THWC[extra // 2 : extra // 2 + num_frames]


def _spread(path: Path, taken: Decoded, count: int) -> Frames:
    """`count` of the frames of a decoded video, evenly spread; or all it has."""
    wanted = tuple(_even(taken.num_seen, count))
    return decode(path, lambda source: Take(count=len(wanted), indices=wanted)).frames_THWC


def _even(total: int, count: int) -> list[int]:
    """At most `count` indices, evenly spread from the first to the last of `total`."""
    return [round(place) for place in np.linspace(0, total - 1, min(count, total))]


def _repeated(frames_THWC: Frames, count: int) -> Frames:
    chosen = np.linspace(0, len(frames_THWC) - 1, count).round().astype(int)
    return np.ascontiguousarray(frames_THWC[chosen])


def _read_animation(path: Path, count: int, least: int) -> Sampled:
    seconds = [0.0] if count == 1 else frame_seconds(path, most=count / CLIP_FPS)
    is_still = seconds == [0.0]
    indices = [0] if is_still else _shown(seconds, range(min(count, _num_shown(seconds))))
    is_spread = not is_still and len(indices) < least
    if is_spread:
        indices = _even(len(seconds), least)
    return Sampled(
        frames_THWC=read_image(path)[None] if is_still else read_frames(path, indices),
        num_stored=len(seconds),
        stored_fps=float(CLIP_FPS) if is_still else len(seconds) / sum(seconds),
        is_spread=is_spread,
    )


def _read_animated_window(path: Path, num_frames: int) -> Frames:
    seconds = frame_seconds(path)
    if len(seconds) == 1:
        raise MediaError(f"{shown_name(path)} is a picture that does not move.")
    extra = _num_shown(seconds) - num_frames
    if extra < 0:
        return _repeated(read_frames(path, _even(len(seconds), num_frames)), num_frames)
    middle = range(extra // 2, extra // 2 + num_frames)
    return read_frames(path, _shown(seconds, middle))


def _num_shown(seconds: list[float]) -> int:
    """The number of times at which a clip is sampled, CLIP_FPS per second."""
    # Rounded durations may add up to a little more than the last slot.
    return max(1, math.ceil((sum(seconds) - 2 * _LATE) * CLIP_FPS))


def _shown(seconds: list[float], slots: range) -> list[int]:
    """The index of the frame on screen at each of these times, CLIP_FPS per second."""
    starts = np.concatenate([[0], np.cumsum(seconds)])
    times = np.array(slots) / CLIP_FPS
    return [int(after) - 1 for after in np.searchsorted(starts[:-1], times + _LATE, side="right")]


def read_video(path: str | Path) -> tuple[Frames, float]:
    """(frames_THWC uint8, frames per second) of a video as stored.

    Raises MediaError if the file is missing, not a video, damaged or too large.
    """
    path = Path(path)
    if not is_video(path):
        raise _not_a_video(path)
    taken = decode(path, lambda source: Take(count=_MAX_FRAMES))
    return taken.frames_THWC, _fps(taken.source)


def crop_resize(frames_THWC: Frames, side: int = CLIP_SIDE, at: float = 0.5) -> Frames:
    """The largest square of each frame, resized to side x side (by area, or cubic to enlarge).

    at: its position along the longer side, from 0 (left or top) to 1; 0.5 is the middle.
    """
    height, width = frames_THWC.shape[1:3]
    square = min(height, width)
    top, left = int((height - square) * at), int((width - square) * at)
    cut_THWC = frames_THWC[:, top : top + square, left : left + square]
    if square == side:
        return np.ascontiguousarray(cut_THWC)
    how = cv2.INTER_AREA if square > side else cv2.INTER_CUBIC
    resized = [cv2.resize(frame, (side, side), interpolation=how) for frame in cut_THWC]
    return cast(Frames, np.stack(resized))


def write_video(
    path: str | Path,
    frames_THWC: Frames,
    fps: float = CLIP_FPS,
    scale: int = 1,
    comment: str | None = None,
    pixel_format: str = "yuv420p",
) -> None:
    """Writes an H.264 MP4 with `comment` in its metadata; each pixel becomes scale x scale pixels.

    pixel_format: "yuv444p" keeps the colour of every pixel, for training; browsers need the
    default. Equal frames and comment give equal bytes. Raises MediaError if it cannot be written.
    """
    # yuv420p needs even sides: an odd one gets its last row or column twice.
    odd = [(0, side * scale % 2) for side in frames_THWC.shape[1:3]]
    if any(added for _, added in odd):
        frames_THWC = np.pad(_enlarge(frames_THWC, scale), ((0, 0), *odd, (0, 0)), mode="edge")
        scale = 1
    height, width = frames_THWC.shape[1:3]
    size = f"{width}x{height}"
    with replacing(Path(path)) as temporary, _metadata(temporary, comment) as metadata:
        # OpenCV reads every file as smpte170m; the tag makes browsers do the same.
        # One thread and no dates or version names, so that equal input gives equal bytes.
        # fmt: off
        command: list[ffmpeg.Argument] = [
            "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", f"{fps:g}",
            "-i", "pipe:0", "-f", "ffmetadata", "-i", ffmpeg.file_url(metadata),
            "-map_metadata", "1",
            # Enlarged there, frame by frame: a long clip would not fit into memory.
            "-vf", f"scale={width * scale}:{height * scale}:flags=neighbor,"
                   "scale=out_color_matrix=smpte170m:out_range=tv,"
                   "setparams=color_primaries=bt709:color_trc=bt709:colorspace=smpte170m",
            "-c:v", "libx264", "-crf", "16", "-pix_fmt", pixel_format,
            "-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact",
            "-movflags", "+faststart+use_metadata_tags",
            "-f", "mp4", ffmpeg.file_url(temporary),
        ]
        # fmt: on
        pixels = frames_THWC.reshape(-1).data  # a view, since a copy of a long clip takes memory
        if ffmpeg.run(command, pixels, has_time_limit=False) is None:
            raise MediaError(f"{shown_name(path)} cannot be written as a video.")


@contextlib.contextmanager
def _metadata(video: Path, comment: str | None) -> Iterator[Path]:
    """A file beside the video with its comment, which may be longer than a command line."""
    path = video.with_suffix(".txt")
    with unfinished(path):
        # In ffmpeg's notation.
        escaped = re.sub(r"([\\=;#\r\n])", r"\\\1", comment or "")
        tag = f"comment={escaped}\n" if comment else ""
        path.write_bytes(f";FFMETADATA1\n{tag}".encode(errors="replace"))
        try:
            yield path
        finally:
            path.unlink()


def write_gif(
    path: str | Path,
    frames_THWC: Frames,
    fps: float = CLIP_FPS,
    scale: int = 1,
    comment: str | None = None,
) -> None:
    """Writes a looping GIF with one palette; each pixel becomes scale x scale pixels.

    Raises MediaError if it cannot be written.
    """
    palette = Image.fromarray(rearrange(frames_THWC, "T H W C -> (T H) W C")).quantize(256)
    pictures = [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in _enlarge(frames_THWC, scale)
    ]
    # A GIF counts in hundredths of a second: rounding each frame alone would drift.
    ends_ms = np.round(100 * np.arange(len(pictures) + 1) / fps) * 10
    durations_ms = np.diff(ends_ms).astype(int).tolist()
    with replacing(Path(path)) as temporary:
        pictures[0].save(
            temporary,
            "GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=durations_ms,
            loop=0,
            comment=(comment or "").encode(),
        )


def write_strip(path: str | Path, frames_THWC: Frames, comment: str | None = None) -> None:
    """Writes a PNG of all frames side by side. Raises MediaError if it cannot be written."""
    strip_HWC = rearrange(frames_THWC, "T H W C -> H (T W) C")
    text = PngInfo()
    if comment:
        text.add_itxt("comment", comment)
    with replacing(Path(path)) as temporary:
        iio.imwrite(temporary, strip_HWC, plugin="pillow", extension=".png", pnginfo=text)


def read_comment(path: str | Path) -> str | None:
    """The comment of a video or picture, or None if it has none or more than MAX_COMMENT_BYTES.

    Raises MediaError if the file is neither.
    """
    path = Path(path)
    if not is_video(path):
        with open_image(path) as image:
            comment = image.info.get("comment")
        if isinstance(comment, bytes):
            comment = comment.decode(errors="replace")
        return str(comment) if comment and len(comment) <= MAX_COMMENT_BYTES else None
    command: list[ffmpeg.Argument] = [
        *ffmpeg.PROTECTED, "-i", ffmpeg.file_url(path), "-f", "ffmetadata", "pipe:1",
    ]  # fmt: skip
    listing = ffmpeg.first_bytes(command, _MAX_LISTING_BYTES)
    if listing is None:
        raise MediaError(f"{shown_name(path)} is damaged.")
    tag = _COMMENT.search(listing.decode(errors="replace"))
    if tag is None or tag.end() - tag.start() > MAX_COMMENT_BYTES:
        return None
    return re.sub(r"\\(.)", r"\1", tag[1], flags=re.DOTALL)


def _enlarge(frames_THWC: Frames, scale: int) -> Frames:
    return frames_THWC.repeat(scale, axis=1).repeat(scale, axis=2)
