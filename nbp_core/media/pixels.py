"""The pixels of a picture: upright, in sRGB, 8 bits per colour, on white, at a bounded size.

Shape letters: H W pixels, C colour (RGB).
"""

from __future__ import annotations

import math
import struct
import zlib

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from nbp_core.media.files import Frames
from nbp_core.media.gif import Screen
from nbp_core.media.srgb import Colours, in_srgb

# Errors of Pillow's readers for damaged files.
DAMAGE = (
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
_BRIGHTEST = 16.0
"""A picture of fractions has white at 1, and perhaps lights that are brighter."""


def rgb(
    image: Image.Image, colours: Colours, max_pixels: int, screen: Screen | None = None
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


def is_misread(image: TiffImageFile) -> bool:
    """Whether Pillow takes the numbers of this TIFF for others."""
    tags = image.tag_v2
    bits = max(tags.get(_BITS, (1,)))
    is_signed = _SIGNED in tags.get(_SAMPLE_FORMAT, (1,))
    return (is_signed and bits < 16) or (tags.get(_PLANES) == _APART and bits > 8)


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
    except DAMAGE:
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
