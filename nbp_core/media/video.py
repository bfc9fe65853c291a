"""PIXELS: read, write, crop and resize pictures and clips. Knows nothing of torch or of models.

Shape letters: T H W frames and pixels, C colour (RGB). `frames_THWC` is uint8, `clip_CTHW` is
float32 in [0, 1]. Bad input raises MediaError: one sentence that names the file, never its folder.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt
from einops import rearrange
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nbp_core.config.shapes import CLIP_FPS, CLIP_SIDE
from nbp_core.media.files import (
    Frames,
    MediaError,
    check_memory,
    is_video,
    open_image,
    open_video,
    replacing,
    run_ffmpeg,
    to_rgb,
)

__all__ = [
    "Clip",
    "Frames",
    "MediaError",
    "crop_resize",
    "read_comment",
    "read_context",
    "read_image",
    "read_video",
    "read_video_bytes",
    "read_video_window",
    "to_clip",
    "to_frames",
    "write_gif",
    "write_strip",
    "write_video",
]

Clip = npt.NDArray[np.float32]

_ANIMATED_FORMATS = ("GIF", "WEBP", "PNG")


def read_image(path: str | Path) -> Frames:
    """A picture as frame_HWC, upright (EXIF), laid on white where it is transparent.

    Raises MediaError when the file is missing, not a picture, damaged or above MAX_PIXELS.
    """
    with open_image(Path(path)) as image:
        return to_rgb(image)


def read_context(path: str | Path, max_frames: int | None = None) -> Frames:
    """A picture (one frame), an animated picture or a video as frames_THWC, told by content.

    Raises MediaError when the file is neither.
    """
    path = Path(path)
    if is_video(path):
        return read_video(path, max_frames)[0]
    with open_image(path) as image:
        # Of the others (phone JPEG, TIFF) the further frames are previews and pages.
        count = getattr(image, "n_frames", 1) if image.format in _ANIMATED_FORMATS else 1
        count = min(count, max_frames or count)
        check_memory(path.name, count * image.width * image.height * 3)
        frames = []
        for index in range(count):
            image.seek(index)
            frames.append(to_rgb(image))
        return np.stack(frames)


def read_video(path: str | Path, max_frames: int | None = None) -> tuple[Frames, float]:
    """(frames_THWC, frames per second); decodes no more than `max_frames` from the start.

    Raises MediaError when the file is missing, not a video, damaged or too large.
    """
    path = Path(path)
    with open_video(path) as capture:
        fps = capture.get(cv2.CAP_PROP_FPS)
        frames: list[Frames] = []
        while len(frames) != max_frames:
            ok, frame = capture.read()
            if not ok:
                break
            frames.append(cv2.cvtColor(cast(Frames, frame), cv2.COLOR_BGR2RGB).astype(np.uint8))
            check_memory(path.name, len(frames) * frame.nbytes)
    return _stack(frames, path.name), fps if 0 < fps <= 1000 else float(CLIP_FPS)


def read_video_window(path: str | Path, num_frames: int, seconds: float) -> Frames:
    """`num_frames` evenly spaced frames_THWC of the middle `seconds` (of all, if it is shorter).

    A window with fewer frames than asked for repeats some. Raises MediaError as read_video does.
    """
    path = Path(path)
    with open_video(path) as capture:
        fps = capture.get(cv2.CAP_PROP_FPS)
        # Counted by decoding: the count in the header is a guess for many containers.
        total = 0
        while capture.grab():
            total += 1
    span = min(total, max(num_frames, round(seconds * fps))) if 0 < fps <= 1000 else total
    offsets = np.linspace(0, max(span - 1, 0), num_frames).round().astype(int)
    wanted = (total - span) // 2 + offsets
    frames: dict[int, Frames] = {}
    with open_video(path) as capture:
        for index in range(int(wanted[-1]) + 1):
            if capture.grab() and index in wanted:
                frame = capture.retrieve()[1]
                frames[index] = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB).astype(np.uint8)
    return _stack([frames[index] for index in wanted if index in frames], path.name)


def read_video_bytes(data: bytes) -> Frames:
    """frames_THWC of a video held in memory. Raises MediaError when it is not one."""
    # OpenCV reads files only; its own reader for Python streams crashed the interpreter (5.0.0).
    with tempfile.TemporaryDirectory(prefix="nbp-") as folder:
        path = Path(folder, "clip.mp4")
        path.write_bytes(data)
        return read_video(path)[0]


def _stack(frames: list[Frames], name: str) -> Frames:
    if not frames:
        raise MediaError(f"{name} is damaged: it has no frame that can be read.")
    if len({frame.shape for frame in frames}) > 1:
        raise MediaError(f"{name} changes its size midway, which is not supported.")
    return np.stack(frames)


def crop_resize(frames_THWC: Frames, side: int = CLIP_SIDE) -> Frames:
    """The middle square of each frame at side x side: by area when it shrinks, cubic when not."""
    height, width = frames_THWC.shape[1:3]
    square = min(height, width)
    top, left = (height - square) // 2, (width - square) // 2
    cut_THWC = frames_THWC[:, top : top + square, left : left + square]
    if square == side:
        return np.ascontiguousarray(cut_THWC)
    how = cv2.INTER_AREA if square > side else cv2.INTER_CUBIC
    resized = [cv2.resize(frame, (side, side), interpolation=how) for frame in cut_THWC]
    return cast(Frames, np.stack(resized))


def to_clip(frames_THWC: Frames) -> Clip:
    """uint8 frames -> clip_CTHW, float32 in [0, 1]."""
    clip_CTHW = rearrange(frames_THWC, "T H W C -> C T H W").astype(np.float32, order="C")
    return clip_CTHW / np.float32(255)


def to_frames(clip_CTHW: Clip) -> Frames:
    """clip_CTHW in [0, 1] (values outside are clipped) -> uint8 frames_THWC."""
    scaled_THWC = rearrange(clip_CTHW, "C T H W -> T H W C") * 255
    return scaled_THWC.round().clip(0, 255).astype(np.uint8, order="C")


def write_video(
    path: str | Path,
    frames_THWC: Frames,
    fps: float = CLIP_FPS,
    scale: int = 1,
    comment: str | None = None,
    pixel_format: str = "yuv420p",
) -> None:
    """Writes H.264 mp4 (crisp pixels enlarged `scale` times) with `comment` in its metadata.

    pixel_format "yuv444p" keeps the colour of every pixel, for training; browsers want the default.
    Equal frames and comment give equal bytes. Raises MediaError when it cannot be written.
    """
    shown_THWC = _enlarge(frames_THWC, scale)
    # yuv420p needs even sides: an odd one gets its last row or column twice.
    odd = [(0, side % 2) for side in shown_THWC.shape[1:3]]
    shown_THWC = np.pad(shown_THWC, ((0, 0), *odd, (0, 0)), mode="edge")
    size = f"{shown_THWC.shape[2]}x{shown_THWC.shape[1]}"
    with replacing(Path(path)) as temporary:
        # OpenCV takes every file for smpte170m; the file says so, so that browsers do the same.
        # One thread and no dates or version names, so that equal input gives equal bytes.
        # fmt: off
        command = [
            "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", f"{fps:g}", "-i", "-",
            "-vf", "scale=out_color_matrix=smpte170m:out_range=tv,"
                   "setparams=color_primaries=bt709:color_trc=bt709:colorspace=smpte170m",
            "-c:v", "libx264", "-crf", "16", "-pix_fmt", pixel_format,
            "-threads", "1", "-fflags", "+bitexact", "-flags:v", "+bitexact",
            "-movflags", "+faststart+use_metadata_tags",
            *(["-metadata", f"comment={comment}"] if comment else []),
            "-f", "mp4", f"file:{temporary}",
        ]
        # fmt: on
        run_ffmpeg(command, Path(path).name, "cannot be written as a video", shown_THWC.tobytes())


def write_gif(
    path: str | Path,
    frames_THWC: Frames,
    fps: float = CLIP_FPS,
    scale: int = 1,
    comment: str | None = None,
) -> None:
    """Writes a looping GIF, crisp pixels enlarged `scale` times, one palette for all frames."""
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


def write_strip(
    path: str | Path, frames_THWC: Frames, scale: int = 1, comment: str | None = None
) -> None:
    """Writes a PNG of all frames side by side, crisp pixels enlarged `scale` times."""
    strip_HWC = rearrange(_enlarge(frames_THWC, scale), "T H W C -> H (T W) C")
    text = PngInfo()
    if comment:
        text.add_itxt("comment", comment)
    with replacing(Path(path)) as temporary:
        Image.fromarray(strip_HWC).save(temporary, "PNG", pnginfo=text)


def read_comment(path: str | Path) -> str | None:
    """The comment of a video or a picture, None without one. Raises MediaError if it is neither."""
    path = Path(path)
    if not is_video(path):
        with open_image(path) as image:
            comment = image.info.get("comment")
        if isinstance(comment, bytes):
            comment = comment.decode(errors="replace")
        return str(comment) if comment else None
    listing = run_ffmpeg(["-i", f"file:{path}", "-f", "ffmetadata", "-"], path.name, "is damaged")
    text = listing.decode(errors="replace")
    # In this format a backslash stands before a line break, '=', ';', '#' and itself.
    tag = re.search(r"^comment=((?:\\.|[^\\\n])*)", text, re.MULTILINE | re.DOTALL | re.I)
    return re.sub(r"\\(.)", r"\1", tag[1], flags=re.DOTALL) if tag else None


def _enlarge(frames_THWC: Frames, scale: int) -> Frames:
    return frames_THWC.repeat(scale, axis=1).repeat(scale, axis=2)
