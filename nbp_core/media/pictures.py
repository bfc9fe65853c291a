"""Reads pictures, still or animated: upright, in sRGB, on white, at a bounded size.

Shape letters: T H W frames and pixels, C colour (RGB). Bad input raises MediaError.
"""

from __future__ import annotations

import contextlib
import math
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from pi_heif import register_heif_opener
from PIL import Image, UnidentifiedImageError
from PIL.GifImagePlugin import GifImageFile
from PIL.TiffImagePlugin import TiffImageFile

from nbp_core.media.files import (
    MAX_FRAME_PIXELS,
    MAX_PIXELS,
    Frames,
    MediaError,
    is_video,
    shown_name,
    too_large,
)
from nbp_core.media.gif import Screen, comment_bytes
from nbp_core.media.pixels import DAMAGE, is_misread, rgb
from nbp_core.media.srgb import colours_of

MAX_JPEG_PIXELS = 120_000_000
"""Largest baseline JPEG in pixels; it is decoded at a fraction of its size."""
MAX_GIF_COMMENT_BYTES = 4_000_000
"""Longest comments of a GIF: Pillow joins them in a time that grows with the square."""
MAX_WEBP_PIXELS = 40_000_000
"""Largest WebP in pixels; decoding needs memory for four copies."""
MAX_HEIC_PIXELS = 50_000_000
"""Largest HEIC in pixels; decoding needs memory for three copies, in up to 16 bits."""

# Listed, so that Pillow tries no format that starts another program (EPS).
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "HEIF")
register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
# In other formats (phone JPEG, HEIC, TIFF) further frames are previews and pages.
_ANIMATED_FORMATS = ("GIF", "WEBP", "PNG", "AVIF")
_UNSHOWN_FORMATS = ("TIFF", "PPM", "HEIF")
_UNSET_MS, _SHOWN_MS = 10, 100
"""A frame of at most 10 ms has no duration set; browsers show it for 100 ms."""

_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_JPEG_FILLERS = (bytes(64), b"\xaa\x55" * 32)
_PNG_MAGIC, _PNG_MOTION = b"\x89PNG\r\n\x1a\n", (b"acTL", b"fcTL", b"fdAT")
_CLEAR_BYTES = {0: 2, 2: 6}
"""Lengths of the transparent colour of a PNG, by its type of colours."""
_MAX_REPAIRED_BYTES = 100_000_000
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_VIDEO_SUFFIXES = {
    ".mp4", ".m4v", ".mov", ".3gp", ".webm", ".mkv", ".avi", ".divx", ".ogv", ".ogm", ".mpg",
    ".mpeg", ".vob", ".m2v", ".ts", ".mts", ".m2ts", ".dv", ".mxf", ".gxf", ".wmv", ".asf", ".wtv",
    ".flv", ".swf", ".rm", ".rmvb",
}  # fmt: skip
"""Suffixes of files that error sentences call clips, readable or not."""


@contextlib.contextmanager
def open_image(path: Path, data: bytes | None = None) -> Iterator[Image.Image]:
    """Opens a picture without decoding it. Raises MediaError, also inside, for damage that decoding
    finds. data: read in place of the file's content."""
    name = shown_name(path)
    if is_video(path):
        raise MediaError(f"{name} is a video, not a picture.")
    if comment_bytes(path) > MAX_GIF_COMMENT_BYTES:
        raise MediaError(f"{name} has a comment that is too long to be read.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures, which are checked below, and of odd metadata.
            warnings.simplefilter("ignore")
            image = _opened(path, data)
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(name) from error
    except DAMAGE as error:
        if path.suffix.lower() in _VIDEO_SUFFIXES:
            raise MediaError(
                f"{name} is not a clip that can be read (MP4, WebM, MOV, MKV, AVI or GIF)."
            ) from error
        with path.open("rb") as file:
            head = file.read(8)
        if head[:4] in _TIFF_MAGIC:
            raise _odd_tiff(name) from error
        if head == _PNG_MAGIC:
            raise _damaged(name) from error
        raise MediaError(
            f"{name} is not a picture that can be read (PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF,"
            " HEIC)."
        ) from error
    with image:
        _check_size(path, image)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if isinstance(image, TiffImageFile) and is_misread(image):
                    raise _odd_tiff(name)
                yield image
        except MediaError:
            raise
        except Image.DecompressionBombError as error:
            raise _too_many_pixels(name) from error
        except DAMAGE as error:
            raise _damaged(name) from error


def _opened(path: Path, data: bytes | None) -> Image.Image:
    try:
        return Image.open(path if data is None else BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        sound = _without_damaged_notes(path)
        if sound is None:
            raise
        return Image.open(BytesIO(sound), formats=_FORMATS)


def _without_damaged_notes(path: Path) -> bytes | None:
    """A PNG less those chunks that are damaged and not needed for its pixels; None for others."""
    with path.open("rb") as file:
        if file.read(8) != _PNG_MAGIC or path.stat().st_size > _MAX_REPAIRED_BYTES:
            return None
    data = path.read_bytes()
    kept, at = [_PNG_MAGIC], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunk = data[at : at + 12 + length]
        kind = chunk[4:8]
        is_sound = zlib.crc32(chunk[4:-4]) == int.from_bytes(chunk[-4:], "big")
        if kind == b"tRNS":
            is_sound = is_sound and length == _CLEAR_BYTES.get(data[25], length)
        if is_sound or kind[:1].isupper() or kind in _PNG_MOTION:
            kept.append(chunk)
        at += len(chunk)
    return b"".join(kept)


def _too_many_pixels(name: str) -> MediaError:
    limit = MAX_PIXELS // 1_000_000
    return MediaError(f"{name} is too large: the limit is {limit} megapixels.")


def _damaged(name: str) -> MediaError:
    return MediaError(f"{name} is damaged: it cannot be read to its end.")


def _odd_tiff(name: str) -> MediaError:
    return MediaError(
        f"{name} is a TIFF of a kind that is not supported, or damaged: save it as PNG, or with"
        " 8 bits per colour."
    )


def _check_size(path: Path, image: Image.Image) -> None:
    """Raises MediaError for too many pixels; a frame of a GIF may be larger than those before."""
    if large := too_large(path, *image.size, _most_pixels(image)):
        raise large


def _most_pixels(image: Image.Image) -> int:
    """Largest number of pixels for which reading takes at most about 500 MB."""
    if image.format == "WEBP":
        return MAX_WEBP_PIXELS
    if image.format == "HEIF":
        return MAX_HEIC_PIXELS
    # A progressive JPEG is held whole before it is reduced.
    is_lean = image.format in ("JPEG", "MPO") and "progressive" not in image.info
    return MAX_JPEG_PIXELS if is_lean else MAX_PIXELS


def read_image(path: str | Path, max_pixels: int = MAX_FRAME_PIXELS) -> Frames:
    """A picture, or the first frame of an animated one, as frame_HWC uint8: upright (EXIF), in
    sRGB, with white for transparent areas.

    A picture of more than `max_pixels` is reduced to them. Raises MediaError if the file is
    missing, not a picture, damaged or too large.
    """
    path = Path(path)
    try:
        return _first_picture(path, max_pixels)
    except MediaError:
        picture_HWC = _without_end(path, max_pixels)
        if picture_HWC is None:
            raise
        return picture_HWC


def _first_picture(path: Path, max_pixels: int, data: bytes | None = None) -> Frames:
    with open_image(path, data) as image:
        colours = colours_of(path, image)
        if first := _first_frame(image):
            image.seek(first)
        screen = Screen(image) if isinstance(image, GifImageFile) else None
        return rgb(image, colours, max_pixels, screen)


def _without_end(path: Path, max_pixels: int) -> Frames | None:
    """A JPEG that lacks nothing but the marker of its end; None for other files."""
    with contextlib.suppress(MediaError, OSError):
        with open_image(path) as image:
            if image.format not in ("JPEG", "MPO") or "progressive" in image.info:
                return None
            num_colours = len(image.getbands())
        if path.stat().st_size > _MAX_REPAIRED_BYTES:
            return None
        data = path.read_bytes().removesuffix(b"\xff")
        scan = data.rfind(_JPEG_SCAN)
        if data[scan + 4 : scan + 5] != bytes([num_colours]):
            # Other colours may follow in scans of their own.
            return None
        # Where data is missing, what stands in its place shows.
        first_HWC, second_HWC = (
            _first_picture(path, max_pixels, data + filler + _JPEG_END) for filler in _JPEG_FILLERS
        )
        if np.array_equal(first_HWC, second_HWC):
            return first_HWC
    return None


def _first_frame(image: Image.Image) -> int:
    """1 where a PNG begins with a picture for programs that know no animations, else 0."""
    return int(getattr(image, "default_image", False))


def browsers_show(path: Path) -> bool:
    """Whether browsers show pictures of this format. Raises MediaError as open_image does."""
    with open_image(path) as image:
        return image.format not in _UNSHOWN_FORMATS


def frame_seconds(path: Path, most: float = math.inf) -> list[float]:
    """Seconds that each frame of a picture is shown, up to `most` in all; [0] for a still one."""
    with open_image(path) as image:
        count = getattr(image, "n_frames", 1) if image.format in _ANIMATED_FORMATS else 1
        first = _first_frame(image)
        count -= first
        seconds: list[float] = []
        total = 0.0
        while count > 1 and len(seconds) < count and total < most:
            image.seek(first + len(seconds))
            _check_size(path, image)
            # Pillow knows the duration of some formats only when the frame is decoded.
            image.load()
            shown_ms = float(image.info.get("duration") or 0)
            seconds.append((shown_ms if shown_ms > _UNSET_MS else _SHOWN_MS) / 1000)
            total += seconds[-1]
        return seconds or [0.0]


def read_frames(path: Path, indices: list[int]) -> Frames:
    """The frames of an animated picture with these ascending indices, as frames_THWC."""
    with open_image(path) as image:
        colours = colours_of(path, image)
        frames: dict[int, Frames] = {}
        screen = Screen(image) if isinstance(image, GifImageFile) else None
        for index in sorted(set(indices)):
            if screen is None:
                image.seek(_first_frame(image) + index)
            else:
                screen.seek(index)
            _check_size(path, image)
            frames[index] = rgb(image, colours, MAX_FRAME_PIXELS, screen)
        return np.stack([frames[index] for index in indices])
