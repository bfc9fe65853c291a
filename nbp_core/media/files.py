"""Opens picture and video files that may be anything, and replaces files whole or not at all.

The door of video.py: every file comes through here and is refused here, before it is decoded.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import subprocess
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Frames = npt.NDArray[np.uint8]

MAX_PIXELS = 40_000_000
"""Largest picture or video frame that is decoded."""
MAX_DECODED_BYTES = 2**30
"""Largest clip that is decoded whole; a cap on its frames reads the start of a longer one."""
_FFMPEG_SECONDS = 300

# Named so that Pillow tries no format that starts another program (EPS).
_PICTURE_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
# FFmpeg also opens playlists, which name other files and addresses: only real containers pass.
_VIDEO_MAGIC = re.compile(
    rb"....(ftyp(?!avif|avis|heic|heix|mif1)|moov|mdat|wide|free|skip)"
    rb"|\x1a\x45\xdf\xa3|RIFF....AVI |OggS|\x00\x00\x01\xba",
    re.DOTALL,
)


# What Pillow's readers raise when they stumble over nonsense.
_DAMAGE = (
    OSError, SyntaxError, EOFError, ValueError, TypeError, ArithmeticError, LookupError,
    struct.error, zlib.error,
)  # fmt: skip


class MediaError(ValueError):
    """A picture or video that cannot be read or written, in one plain sentence."""


def is_video(path: Path) -> bool:
    """Whether the file starts as a video does. Raises MediaError when it cannot be read."""
    if path.is_dir():
        raise MediaError(f"{path.name} is a folder, not a picture or a video.")
    if not path.is_file():
        raise MediaError(f"{path.name} does not exist.")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise MediaError(f"{path.name} cannot be read: {_reason(error)}.") from error
    if not head:
        raise MediaError(f"{path.name} is empty.")
    return _VIDEO_MAGIC.match(head) is not None


def check_memory(name: str, num_bytes: int) -> None:
    """Raises MediaError when that many decoded bytes are more than MAX_DECODED_BYTES."""
    if num_bytes > MAX_DECODED_BYTES:
        limit = f"{MAX_DECODED_BYTES / 2**30:g} GiB"
        raise MediaError(f"{name} is too long: its frames take more than {limit} of memory.")


def _check_pixels(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise MediaError(
            f"{name} is too large: {width} x {height} pixels, and the limit is"
            f" {MAX_PIXELS // 1_000_000} megapixels."
        )


@contextlib.contextmanager
def open_image(path: Path) -> Iterator[Image.Image]:
    """The picture, not yet decoded. Raises MediaError, also for damage found while decoding."""
    if is_video(path):
        raise MediaError(f"{path.name} is a video, not a picture.")
    try:
        with warnings.catch_warnings():
            # Pillow's own, far higher limit: ours says it better.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(path, formats=_PICTURE_FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        limit = MAX_PIXELS // 1_000_000
        raise MediaError(f"{path.name} is too large: the limit is {limit} megapixels.") from error
    except _DAMAGE as error:
        raise MediaError(
            f"{path.name} is not a picture that can be read (PNG, JPEG, WebP, GIF, BMP, TIFF)."
        ) from error
    with image:
        _check_pixels(path.name, *image.size)
        try:
            yield image
        except MediaError:
            raise
        except _DAMAGE as error:
            raise MediaError(f"{path.name} is damaged: it cannot be read to its end.") from error


def to_rgb(image: Image.Image) -> Frames:
    """The picture's present frame as frame_HWC uint8, upright, on white where transparent."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        # Pillow clips these at 255 when it converts them, which turns 16-bit grey all white.
        values_HW = np.asarray(image, dtype=np.float64)
        peak = values_HW.max(initial=0)
        full = 1 if peak <= 1 and image.mode == "F" else 65535 if peak > 255 else 255
        full = 65535 if image.mode.startswith("I;16") else full
        image = Image.fromarray((values_HW.clip(0, full) / full * 255).round().astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.array(image.convert("RGB"))


@contextlib.contextmanager
def open_video(path: Path) -> Iterator[cv2.VideoCapture]:
    """A decoder at the first frame. Raises MediaError when the file is no video or too large."""
    _silence_decoder()
    if not is_video(path):
        raise MediaError(f"{path.name} is not a video that can be read (MP4, MOV, WebM, MKV, AVI).")
    # One thread: short clips spend longer starting threads than decoding.
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    try:
        if not capture.isOpened():
            raise MediaError(f"{path.name} is damaged: it cannot be opened as a video.")
        width, height = (
            int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT)
        )
        _check_pixels(path.name, width, height)
        yield capture
    finally:
        capture.release()


def _silence_decoder() -> None:
    # FFmpeg inside OpenCV reads this once, at the first video; "-8" is its level for silence.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def run_ffmpeg(arguments: list[str], name: str, fault: str, data: bytes | None = None) -> bytes:
    """What the bundled ffmpeg prints. Raises MediaError '{name} {fault}.' if it fails or hangs."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *arguments]
    try:
        return subprocess.run(
            command, input=data, capture_output=True, check=True, timeout=_FFMPEG_SECONDS
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise MediaError(f"{name} {fault}.") from error


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved onto it at the end and removed after any error."""
    if not path.parent.is_dir():
        raise MediaError(f"{path.name} cannot be written: its folder does not exist.")
    if path.is_dir():
        raise MediaError(f"{path.name} cannot be written: it is a folder.")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise MediaError(f"{path.name} cannot be written: {_reason(error)}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _reason(error: OSError) -> str:
    # str(error) would carry the whole path.
    return (error.strerror or "the system refused").lower()
