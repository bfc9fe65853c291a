"""Converts pictures to sRGB, as browsers do: by their profile, code points or gamma.

Shape letters: H W pixels, C colour (RGB).
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from nbp_core.media import ffmpeg
from nbp_core.media.describe import describe
from nbp_core.media.files import MediaError, shown_name
from nbp_core.media.filters import converted

_PROFILED_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
_RAMPS = ((1, 1, 1), (1, 0, 0), (0, 1, 0), (0, 0, 1))
_ROUNDING = 2
"""Largest difference, in levels, between versions of the sRGB profile."""
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
_SRGB_XY = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
"""The chromaticities x, y of white, red, green and blue."""

# Code points of ITU-T H.273 by ffmpeg's names. Other transfers keep their levels in browsers.
_PRIMARIES = {
    1: "bt709", 4: "bt470m", 5: "bt470bg", 6: "smpte170m", 7: "smpte240m", 8: "film", 9: "bt2020",
    10: "smpte428", 11: "smpte431", 12: "smpte432", 22: "ebu3213",
}  # fmt: skip
_TRANSFERS = {
    4: "bt470m", 5: "bt470bg", 7: "smpte240m", 8: "linear", 9: "log100", 10: "log316",
    16: "smpte2084", 17: "smpte428", 18: "arib-std-b67",
}  # fmt: skip
_MOST_DEEP_PIXELS = 40_000_000
"""Largest picture that is decoded once more, in more than 8 bits, which takes up to 500 MB."""
_SRGB_TRANSFER = "iec61966-2-1"
_PNG_SIGNATURE_BYTES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Colours:
    """What a picture says of its colours; nothing means sRGB."""

    path: Path
    profile: bytes | None = None
    """An ICC profile."""
    code_points: tuple[str, str] | None = None
    """Primaries and transfer, by ffmpeg's names."""
    stream: int | None = None
    """Where ffmpeg finds the same pixels in more than 8 bits, if it does."""
    gamma: float | None = None
    """The exponent from linear light to levels."""
    chromaticities: tuple[float, ...] | None = None
    """x, y of white, red, green and blue."""


def colours_of(path: Path, image: Image.Image) -> Colours:
    """The colours of a picture that is open and not yet decoded. Raises MediaError."""
    profile, info = image.info.get("icc_profile"), image.info
    is_small = image.width * image.height <= _MOST_DEEP_PIXELS
    is_still = is_small and getattr(image, "n_frames", 1) == 1
    if image.format == "PNG" and (cicp := _cicp(path)):
        primaries, transfer, matrix, is_full = cicp
        if matrix or not is_full:
            raise _unsupported(path)
        points = _named(primaries, transfer)
        return Colours(path=path, code_points=points, stream=0 if is_still else None)
    if profile:
        return Colours(path=path, profile=profile)
    if image.format == "AVIF" and (stream := describe(path).stream):
        # A large picture may be stored as tiles.
        is_whole = is_still and (stream.width, stream.height) == image.size
        points = (stream.primaries, stream.transfer)
        return Colours(path=path, code_points=points, stream=stream.index if is_whole else None)
    if image.format == "HEIF" and (stated := info.get("nclx_profile")):
        points = _named(stated["color_primaries"], stated["transfer_characteristics"])
        return Colours(path=path, code_points=points)
    if image.format == "PNG" and "srgb" not in info and info.get("gamma"):
        chromaticities = info.get("chromaticity") or _SRGB_XY
        return Colours(path=path, gamma=info["gamma"], chromaticities=chromaticities)
    return Colours(path=path)


def _named(primaries: int, transfer: int) -> tuple[str, str]:
    return _PRIMARIES.get(primaries, "unknown"), _TRANSFERS.get(transfer, "unknown")


def _cicp(path: Path) -> bytes | None:
    """The four code points of a PNG's cICP chunk: primaries, transfer, matrix, whether full."""
    with path.open("rb") as file:
        file.seek(_PNG_SIGNATURE_BYTES)
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            if kind == b"IDAT":
                break
            if kind == b"cICP" and length == 4:
                return file.read(4)
            file.seek(length + 4, 1)
    return None


def in_srgb(image: Image.Image, colours: Colours, is_grey: bool) -> Image.Image:
    """RGB or RGBA in sRGB. Raises MediaError for colours that cannot be converted."""
    has_alpha = image.mode == "RGBA"
    opaque = image.convert("L" if is_grey else "RGB") if has_alpha else image
    if colours.profile:
        opaque = _by_profile(opaque, colours.profile)
    opaque = opaque if opaque.mode == "RGB" else opaque.convert("RGB")
    if colours.code_points:
        opaque = _by_code_points(opaque, colours, *colours.code_points)
    if colours.gamma and colours.chromaticities:
        opaque = _by_gamma(opaque, colours.gamma, colours.chromaticities)
    if has_alpha:
        opaque.putalpha(image.getchannel("A"))
    return opaque


def _by_profile(image: Image.Image, data: bytes) -> Image.Image:
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        if _PROFILED_MODES.get(profile.profile.xcolor_space.strip()) != image.mode:
            return image
        transform = ImageCms.buildTransform(
            profile, _SRGB, image.mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC,
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
        # Converting from sRGB's own profiles would only round every level again.
        if image.mode == "RGB" and _changes_nothing(transform):
            return image
        converted_image = ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        # A damaged profile is ignored.
        return image
    return image if converted_image is None else converted_image


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a transform changes no level of red, green, blue or grey by more than rounding."""
    levels = np.arange(0, 256, 5, dtype=np.uint8)
    ramps = np.concatenate([levels[:, None] * np.array([c], np.uint8) for c in _RAMPS])[None]
    moved = ImageCms.applyTransform(Image.fromarray(ramps), transform)
    return moved is not None and bool(np.abs(np.asarray(moved, int) - ramps).max() <= _ROUNDING)


def _by_code_points(
    image: Image.Image, colours: Colours, primaries: str, transfer: str
) -> Image.Image:
    transfer = transfer if transfer in _TRANSFERS.values() else _SRGB_TRANSFER
    primaries = primaries if primaries in _PRIMARIES.values() else "unknown"
    if primaries in ("bt709", "unknown") and transfer == _SRGB_TRANSFER:
        return image
    width, height = image.size
    after: list[ffmpeg.Argument] = [
        "-frames:v", "1", "-f", "rawvideo", "-pix_fmt", "rgb24", "-vf",
        ",".join([
            f"scale={width}:{height}:flags=bicubic+full_chroma_int",
            *converted(primaries, transfer, _SRGB_TRANSFER),
        ]),
        "pipe:1",
    ]  # fmt: skip
    pixels = None
    if colours.stream is not None:
        # In 8 bits, wide gamuts and HDR lose up to 30 levels of a saturated colour.
        url, stream = ffmpeg.file_url(colours.path.absolute()), f"0:{colours.stream}"
        # One thread, since each holds frames of its own.
        pixels = ffmpeg.first_bytes(
            [
                *ffmpeg.PROTECTED,
                "-noautorotate",
                "-threads",
                "1",
                "-i",
                url,
                "-map",
                stream,
                *after,
            ],
            3 * width * height,
        )
    if not pixels:
        layout = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
        pixels = ffmpeg.run([*layout, "-i", "pipe:0", *after], image.tobytes())
    if not pixels:
        raise _unsupported(colours.path)
    return Image.frombytes("RGB", image.size, pixels)


def _by_gamma(image: Image.Image, gamma: float, chromaticities: tuple[float, ...]) -> Image.Image:
    levels_HWC = np.asarray(image)
    linear_HWC = (np.arange(256, dtype=np.float32) / 255)[levels_HWC] ** np.float32(1 / gamma)
    try:
        to_srgb_CC = np.linalg.solve(_rgb_to_xyz(_SRGB_XY), _rgb_to_xyz(chromaticities))
    except (np.linalg.LinAlgError, ArithmeticError):
        # Impossible chromaticities are ignored.
        return image
    # White stays white, whatever its colour.
    to_srgb_CC /= to_srgb_CC.sum(1, keepdims=True)
    srgb_HWC = (linear_HWC @ to_srgb_CC.T.astype(np.float32)).clip(0, 1)
    dark_HWC, bright_HWC = 12.92 * srgb_HWC, 1.055 * srgb_HWC ** (1 / 2.4) - 0.055
    coded_HWC = np.where(srgb_HWC <= 0.0031308, dark_HWC, bright_HWC)
    return Image.fromarray(np.round(255 * coded_HWC).astype(np.uint8))


def _rgb_to_xyz(chromaticities: tuple[float, ...]) -> np.ndarray:
    """The matrix from linear RGB of these chromaticities to XYZ with a white of Y = 1."""
    white, *primaries = ([x / y, 1, (1 - x - y) / y] for x, y in _pairs(chromaticities))
    columns = np.array(primaries).T
    return np.asarray(columns * np.linalg.solve(columns, white))


def _pairs(chromaticities: tuple[float, ...]) -> zip[tuple[float, float]]:
    return zip(chromaticities[::2], chromaticities[1::2], strict=True)


def _unsupported(path: Path) -> MediaError:
    return MediaError(f"{shown_name(path)} has colours of a kind that is not supported.")
