"""Reads pictures, still or animated: upright, in sRGB, on white, at a bounded size.

Shape letters: T H W frames and pixels, C colour (RGB). Bad input raises MediaError.
"""

from __future__ import annotations

import contextlib
import math
import mmap
import struct
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.GifImagePlugin import GifImageFile
from PIL.PngImagePlugin import PngImageFile
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
from nbp_core.media.srgb import Colours, colours_of, in_srgb

MAX_JPEG_PIXELS = 120_000_000
"""Largest baseline JPEG in pixels; it is decoded at a fraction of its size."""
MAX_GIF_COMMENT_BYTES = 4_000_000
"""Longest comments of a GIF: Pillow joins them in a time that grows with the square."""
MAX_WEBP_PIXELS = 40_000_000
"""Largest WebP in pixels; decoding needs memory for four copies."""

# Listed, so that Pillow tries no format that starts another program (EPS).
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
# In other formats (phone JPEG, TIFF) further frames are previews and pages.
_ANIMATED_FORMATS = ("GIF", "WEBP", "PNG", "AVIF")
_CLEARED, _RESTORED = 2, 3
"""What becomes of a frame's area in a GIF before the next frame; else it stays."""
_UNSET_MS, _SHOWN_MS = 10, 100
"""A frame of at most 10 ms has no duration set; browsers show it for 100 ms."""

# Errors of Pillow's readers for damaged files.
_DAMAGE = (
    OSError, SyntaxError, EOFError, ValueError, TypeError, ArithmeticError, LookupError,
    struct.error, zlib.error, AssertionError, RuntimeError,
)  # fmt: skip

_ORIENTATION = 0x0112
_XMP = ("xmp", "XML:com.adobe.xmp")
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SHALLOW_GREYS = {"L;2": 85, "L;4": 17}
"""Levels between two greys of a PNG of few bits."""
_BITS, _PHOTOMETRIC, _PLANES, _SAMPLE_FORMAT = 258, 262, 284, 339
"""Tags of a TIFF."""
_WHITE_IS_ZERO, _APART, _SIGNED = 0, 2, 2
"""Values of these tags: of a negative, of colours that are stored apart, of signed numbers."""
_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_JPEG_FILLERS = (bytes(64), b"\xaa\x55" * 32)
_PNG_MAGIC, _PNG_MOTION = b"\x89PNG\r\n\x1a\n", (b"acTL", b"fcTL", b"fdAT")
_CLEAR_BYTES = {0: 2, 2: 6}
"""Lengths of the transparent colour of a PNG, by its type of colours."""
_MAX_REPAIRED_BYTES = 100_000_000
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BRIGHTEST = 16.0
"""A picture of fractions has white at 1, and perhaps lights that are brighter."""
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
    if _comment_bytes(path) > MAX_GIF_COMMENT_BYTES:
        raise MediaError(f"{name} has a comment that is too long to be read.")
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures, which are checked below, and of odd metadata.
            warnings.simplefilter("ignore")
            image = _opened(path, data)
    except Image.DecompressionBombError as error:
        raise _too_many_pixels(name) from error
    except _DAMAGE as error:
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
            f"{name} is not a picture that can be read (PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF)."
        ) from error
    with image:
        _check_size(path, image)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                if isinstance(image, TiffImageFile) and _is_misread(image):
                    raise _odd_tiff(name)
                yield image
        except MediaError:
            raise
        except Image.DecompressionBombError as error:
            raise _too_many_pixels(name) from error
        except _DAMAGE as error:
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


def _is_misread(image: TiffImageFile) -> bool:
    """Whether Pillow takes the numbers of this TIFF for others."""
    tags = image.tag_v2
    bits = max(tags.get(_BITS, (1,)))
    is_signed = _SIGNED in tags.get(_SAMPLE_FORMAT, (1,))
    return (is_signed and bits < 16) or (tags.get(_PLANES) == _APART and bits > 8)


def _check_size(path: Path, image: Image.Image) -> None:
    """Raises MediaError for too many pixels; a frame of a GIF may be larger than those before."""
    if large := too_large(path, *image.size, _most_pixels(image)):
        raise large


def _comment_bytes(path: Path) -> int:
    """Bytes of all comments of a GIF, whole or cut; 0 for other files."""
    total = 0
    with (
        contextlib.suppress(IndexError, OSError, ValueError),  # cut, or gone: Pillow says so
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        if data[:4] != b"GIF8":
            return 0
        at = 13 + _colour_table_bytes(data[10])
        while data[at : at + 1] not in (b";", b""):
            label = data[at : at + 2]
            if label[:1] == b"!":
                at += 2
            elif label[:1] == b",":
                at += 11 + _colour_table_bytes(data[at + 9])
            else:
                at += 1  # Pillow reads on as well
                continue
            while size := data[at]:
                at += 1 + size
                total += 1 + size if label == b"!\xfe" else 0
            at += 1
    return total


def _colour_table_bytes(flags: int) -> int:
    return 3 * 2 ** (1 + (flags & 7)) if flags & 128 else 0


def _most_pixels(image: Image.Image) -> int:
    """Largest number of pixels for which reading takes at most about 500 MB."""
    if image.format == "WEBP":
        return MAX_WEBP_PIXELS
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
        screen = _Screen(image) if isinstance(image, GifImageFile) else None
        return _rgb(image, colours, max_pixels, screen)


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
        screen = _Screen(image) if isinstance(image, GifImageFile) else None
        for index in sorted(set(indices)):
            if screen is None:
                image.seek(_first_frame(image) + index)
            else:
                screen.seek(index)
            _check_size(path, image)
            frames[index] = _rgb(image, colours, MAX_FRAME_PIXELS, screen)
        return np.stack([frames[index] for index in indices])


class _Screen:
    """Which pixels of a GIF its frames cover. Pillow gives the others a colour."""

    def __init__(self, image: GifImageFile) -> None:
        self._image = image
        self._index = 0
        self._before_HW = np.zeros(image.size[::-1], np.bool_)
        self._cover()

    def seek(self, index: int) -> None:
        """Goes on to a frame with an index that is no smaller."""
        while self._index < index:
            if self._image.disposal_method == _CLEARED:
                self._before_HW = self.covered_HW.copy()
                self._before_HW[self._area] = False
            elif self._image.disposal_method != _RESTORED:
                self._before_HW = self.covered_HW
            self._index += 1
            self._image.seek(self._index)
            self._cover()

    def _cover(self) -> None:
        left, top, right, bottom = self._image.dispose_extent or (0, 0, 0, 0)
        self._area = (slice(top, bottom), slice(left, right))
        self.covered_HW = self._before_HW.copy()
        self.covered_HW[self._area] = True

    def laid(self, frame: Image.Image) -> Image.Image:
        """The frame within the screen, transparent where nothing is covered."""
        height, width = self.covered_HW.shape
        if frame.size != (width, height):
            frame = frame.crop((0, 0, width, height))
        if self.covered_HW.all():
            return frame
        frame = frame.convert("RGBA")
        alpha_HW = np.asarray(frame.getchannel("A"))
        frame.putalpha(Image.fromarray(np.where(self.covered_HW, alpha_HW, np.uint8(0))))
        return frame


def _rgb(
    image: Image.Image, colours: Colours, max_pixels: int, screen: _Screen | None = None
) -> Frames:
    """The current frame as frame_HWC uint8, reduced first so that later steps use less memory."""
    # JPEG is decoded at 1/2, 1/4 or 1/8 of its size; other formats do nothing here.
    image.draft(None, _reduced(image.size, max_pixels))
    clear = _clear_colour(image)
    image.load()
    orientation = _orientation(image)
    small = _in_eight_bits(image) if clear is None else _with_clear(image, clear)
    if screen is not None:
        small = screen.laid(small)
    size = _reduced(small.size, max_pixels)
    if size != small.size:
        small = small.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    small = _on_white(in_srgb(small, colours, is_grey=image.mode == "LA"))
    if orientation in _UPRIGHT:
        small = small.transpose(_UPRIGHT[orientation])
    return np.array(small)


def _clear_colour(image: Image.Image) -> int | tuple[int, ...] | None:
    """The transparent colour of a PNG of 2, 4 or 16 bits, as its pixels are decoded; else None.

    Pillow decodes such pixels to 8 bits and leaves the colour as it is stored.
    """
    stored = image.info.get("transparency")
    layout = str(image.tile[0].args) if isinstance(image, PngImageFile) and image.tile else ""
    if layout == "RGB;16B" and isinstance(stored, tuple):
        return tuple(value >> 8 for value in stored)
    if layout in _SHALLOW_GREYS and isinstance(stored, int):
        return stored * _SHALLOW_GREYS[layout]
    return None


def _with_clear(image: Image.Image, clear: int | tuple[int, ...]) -> Image.Image:
    """The picture as RGBA, transparent in this colour."""
    stored = image.info["transparency"]
    image.info["transparency"] = clear
    try:
        return image.convert("RGBA")
    finally:
        # Later frames begin with it.
        image.info["transparency"] = stored


def _reduced(size: tuple[int, int], max_pixels: int) -> tuple[int, int]:
    width, height = size
    shrink = min(1.0, math.sqrt(max_pixels / (width * height)))
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def _orientation(image: Image.Image) -> int:
    source = image
    if not isinstance(image, TiffImageFile):
        # Pillow takes that of XMP where EXIF states none. Browsers do not.
        source = Image.new("1", (1, 1))
        source.info = {name: value for name, value in image.info.items() if name not in _XMP}
    try:
        return int(source.getexif().get(_ORIENTATION, 1))
    except _DAMAGE:
        # Damaged metadata is ignored.
        return 1


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """The picture in a mode that can be resized: RGB, RGBA, L, LA, CMYK or LAB."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _from_deep_grey(image)
    if image.mode != "RGBA" and image.has_transparency_data:
        return image.convert("RGBA")
    if image.format == "BMP" and image.mode == "RGBA" and not image.getchannel("A").getbbox():
        # Nobody stores a picture that is transparent everywhere: the byte is unused.
        return image.convert("RGB")
    if image.mode in ("RGB", "RGBA", "L", "CMYK", "LAB"):
        return image
    return image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    # Pillow clips these at 255 when it converts them, which turns 16-bit grey all white.
    values_HW = np.asarray(image)
    tags = image.tag_v2 if isinstance(image, TiffImageFile) else {}
    is_signed = _SIGNED in tags.get(_SAMPLE_FORMAT, (1,))
    if tags and image.mode == "I" and not is_signed:
        values_HW = values_HW.view(np.uint32)
    peak = float(values_HW.max(initial=0, where=np.isfinite(values_HW)))
    if image.format == "PPM" and image.mode == "I":
        full = 65535.0  # Pillow scales whatever the file says to this
    else:
        full = _white(image.mode, peak, is_signed, tags.get(_BITS, (0,))[0])
    levels_HW = np.empty(values_HW.shape, np.uint8)
    for row, values_W in enumerate(values_HW):
        known_W = np.nan_to_num(values_W.astype(np.float64), nan=0.0)
        levels_HW[row] = np.round(np.clip(known_W, 0, full) / full * 255)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        levels_HW = 255 - levels_HW
    deep = Image.fromarray(levels_HW)
    clear = image.info.get("transparency")
    if not isinstance(clear, int):
        return deep
    deep.putalpha(Image.fromarray(np.where(values_HW == clear, 0, 255).astype(np.uint8)))
    return deep.convert("RGBA")


def _white(mode: str, peak: float, is_signed: bool, bits: int) -> float:
    """The value of white in deep grey whose brightest value is `peak`; a picture seldom says it."""
    if mode.startswith("I;16") or (is_signed and bits == 16):
        return 32767 if is_signed else 65535
    if mode == "F" and peak <= _BRIGHTEST:
        return 1
    for white in (255, 65535):
        if peak <= white:
            return white
    return peak if mode == "F" else 2**31 - 1 if is_signed else 2**32 - 1


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
