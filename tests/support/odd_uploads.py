"""More than two hundred files that somebody might upload: odd ones, torn ones, lies and bombs.

cases() names each; the same name gives the same bytes every time.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps

from tests.support.odd_videos import CONTAINERS, VIDEOS, encode

Verdict = Literal["frames", "refused", "either"]
"""What must come of a file: frames, a sentence, or one of the two."""
Bytes = Callable[[], bytes]
FRACTIONS = (0.02, 0.3, 0.6, 0.95)


@dataclass(frozen=True)
class Case:
    """A file to upload."""

    file_name: str
    data: Bytes
    verdict: Verdict = "either"
    is_slow: bool = False


def picture(width: int = 48, height: int = 36) -> Image.Image:
    """Noise over a gradient: no encoder gets it small, no two rows are equal."""
    y, x = np.mgrid[:height, :width]
    noise = np.random.default_rng(width * 1000 + height).integers(0, 64, (height, width, 3))
    shades = np.stack([x * 160 // width, y * 160 // height, (x + y) % 160], axis=-1)
    return Image.fromarray((shades + noise).astype(np.uint8))


def save(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def in_mode(mode: str, kind: str, **options: Any) -> bytes:
    image = picture()
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode in ("F", "I"):
        values = np.asarray(image.convert("L"), np.float32)
        image = Image.fromarray(values if mode == "F" else values.astype(np.int32))
    else:
        image = image.convert("RGB").convert(mode)
    return save(image, kind, **options)


def turned(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return save(picture(), "JPEG", exif=exif)


def animated(kind: str, count: int, **options: Any) -> bytes:
    first, *others = (ImageOps.solarize(picture(), 20 * index) for index in range(count))
    return save(first, kind, save_all=True, append_images=others, **options)


@cache
def base(kind: str) -> bytes:
    """A good file of a kind, to be spoiled."""
    if kind in VIDEOS:
        return encode(kind)
    return animated("GIF", 6) if kind == "gif" else save(picture(), PICTURES[kind])


def cut(kind: str, fraction: float) -> bytes:
    whole = base(kind)
    return whole[: int(len(whole) * fraction)]


def flipped(kind: str, seed: int) -> bytes:
    """Some of the bytes after the first eight are others."""
    data = np.frombuffer(base(kind), np.uint8).copy()
    rng = np.random.default_rng(seed)
    places = rng.integers(8, len(data), 1 + len(data) // 200)
    data[places] = rng.integers(0, 256, len(places))
    return data.tobytes()


def noise(head: bytes, seed: int = 0) -> bytes:
    return head + np.random.default_rng(seed).bytes(4000)


def png(width: int, height: int, bits: int = 8, colour: int = 2, *extra: bytes) -> bytes:
    """A PNG whose header says what it likes, with ten rows of data at most."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    rows = zlib.compress(b"\0" * min(10 * width, 1_000_000))
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def chunk(name: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)


def text_bomb() -> bytes:
    return chunk(b"zTXt", b"comment\0\0" + zlib.compress(b"0" * 30_000_000))


def late_bomb() -> bytes:
    """A good PNG with a text that unpacks to 30 MB behind its pixels."""
    good = save(picture(), "PNG")
    return good[:-12] + text_bomb() + good[-12:]


def jpeg_of(width: int, height: int) -> bytes:
    """A JPEG whose frame header says another size."""
    data = bytearray(base("jpg"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def bmp_of(width: int, height: int) -> bytes:
    data = bytearray(base("bmp"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def gif_of(width: int, height: int) -> bytes:
    data = bytearray(base("gif"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


PICTURES = {
    "png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "bmp": "BMP", "tif": "TIFF",
    "ppm": "PPM", "avif": "AVIF",
}  # fmt: skip
MODES = {
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "jpg": ("L", "RGB", "CMYK"),
    "webp": ("RGB", "RGBA"),
    "gif": ("1", "L", "P"),
    "bmp": ("1", "L", "P", "RGB"),
    "tif": ("1", "L", "LA", "P", "RGBA", "CMYK", "LAB", "I;16", "I", "F"),
    "ppm": ("1", "L", "RGB"),
}
SIZES = ((1, 1), (1, 2), (2, 1), (1, 700), (700, 1), (3, 5), (127, 129), (4001, 2))
GIANTS = ((20_000, 20_000), (0, 0), (0, 9), (100_000, 100_000), (2**31 - 1, 2**31 - 1))
MAGIC = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpg": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    "gif": b"GIF89a",
    "webp": b"RIFF\xa0\x0f\0\0WEBPVP8 ",
    "bmp": b"BM",
    "tif": b"II*\0\x08\0\0\0",
    "ppm": b"P6\n9 9\n",
    "avif": b"\0\0\0\x1cftypavif",
    "heic": b"\0\0\0\x18ftypheic",
    "mp4": b"\0\0\0\x18ftypmp42",
    "mov": b"\0\0\0\x08wide\0\0\0\0mdat",
    "mkv": b"\x1a\x45\xdf\xa3",
    "webm": b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01",
    "avi": b"RIFF\xa0\x0f\0\0AVI ",
    "ogv": b"OggS\0\2",
    "mpg": b"\0\0\1\xba",
}
STRANGERS = {
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>",
    "html": b"<html><script>alert(1)</script></html>",
    "pdf": b"%PDF-1.7\n1 0 obj\n",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
    "json": b'{"a": 1}',
    "zip": b"PK\x03\x04" + b"\0" * 60,
    "m3u8": b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n",
    "ffconcat": b"ffconcat version 1.0\nfile /etc/passwd\n",
    "mpd": b"<?xml version='1.0'?><MPD><BaseURL>http://127.0.0.1/</BaseURL></MPD>",
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5000 RTP/AVP 96\n",
    "exe": b"MZ" + b"\0" * 100,
    "npy": b"\x93NUMPY\x01\0v\0{'descr': '|O', 'shape': (1,)}",
    "txt": b"hello",
    "empty": b"",
    "zeros": b"\0" * 5000,
}


def cases() -> dict[str, Case]:
    """Every file by its name."""
    return {**_good_pictures(), **_lying_pictures(), **_spoiled(), **_videos(), **_strangers()}


def _good_pictures() -> dict[str, Case]:
    found = {}
    for kind, modes in MODES.items():
        for mode in modes:
            data = partial(in_mode, mode, PICTURES[kind])
            found[f"{kind}-mode-{mode}"] = Case(f"a.{kind}", data, "frames")
    for kind in ("png", "jpg", "webp"):
        for width, height in SIZES:
            data = partial(save, picture(width, height), PICTURES[kind])
            found[f"{kind}-{width}x{height}"] = Case(f"a.{kind}", data, "frames")
    for orientation in (*range(10), 65_000):
        found[f"jpg-turned-{orientation}"] = Case("a.jpg", partial(turned, orientation), "frames")
    for kind in ("GIF", "WEBP", "PNG", "TIFF", "AVIF"):
        for count in (1, 3, 7):
            data = partial(animated, kind, count)
            found[f"{kind}-{count}-frames"] = Case(f"a.{kind.lower()}", data, "frames")
    found["gif-no-pause"] = Case("a.gif", partial(animated, "GIF", 6, duration=0), "frames")
    found["gif-disposed"] = Case("a.gif", partial(animated, "GIF", 6, disposal=2), "frames")
    found["jpg-progressive"] = Case("a.jpg", partial(save, picture(), "JPEG", progressive=True))
    return found


def _lying_pictures() -> dict[str, Case]:
    found = {}
    for width, height in GIANTS:
        data = partial(png, width, height)
        found[f"png-says-{width}x{height}"] = Case("giant.png", data, "refused")
    for width, height in ((20_000, 20_000), (65_535, 65_535), (0, 0), (30_000, 1)):
        found[f"jpg-says-{width}x{height}"] = Case("a.jpg", partial(jpeg_of, width, height))
        found[f"gif-says-{width}x{height}"] = Case("a.gif", partial(gif_of, width, height))
    for width, height in ((20_000, 20_000), (2**31 - 1, 2**31 - 1), (-5, 9), (0, 0), (5, -5)):
        found[f"bmp-says-{width}x{height}"] = Case("a.bmp", partial(bmp_of, width, height))
    for bits, colour in ((16, 6), (1, 6), (3, 2), (8, 3), (8, 9)):
        found[f"png-{bits}-bits-colour-{colour}"] = Case("a.png", partial(png, 9, 9, bits, colour))
    found["png-giant-whole"] = Case(
        "a.png", lambda: save(Image.new("1", (20_000, 20_000)), "PNG"), "refused"
    )
    found["png-largest"] = Case(
        "a.png", lambda: save(Image.new("RGBA", (6_300, 6_300)), "PNG"), "frames", is_slow=True
    )
    found["png-text-bomb"] = Case("a.png", lambda: png(9, 9, 8, 2, text_bomb()))
    found["png-late-bomb"] = Case("a.png", late_bomb)
    found["png-no-pixels"] = Case("a.png", lambda: MAGIC["png"] + chunk(b"IEND", b""), "refused")
    for size in (b"20000 20000", b"-1 5", b"5", b"99999999999 1", b"x y"):
        name = f"ppm-says-{size.decode().replace(' ', 'x')}"
        found[name] = Case("a.ppm", partial(bytes.__add__, b"P6 ", size + b" 255\n123"), "refused")
    return found


def _spoiled() -> dict[str, Case]:
    found = {}
    for kind in (*PICTURES, *CONTAINERS):
        for fraction in FRACTIONS:
            name = f"{kind}-cut-{fraction:g}"
            found[name] = Case(_file_name(kind), partial(cut, kind, fraction))
        for seed in range(4):
            found[f"{kind}-flipped-{seed}"] = Case(_file_name(kind), partial(flipped, kind, seed))
    for kind, head in MAGIC.items():
        found[f"{kind}-noise"] = Case(f"a.{kind}", partial(noise, head))
    for kind in ("png", "gif", "mp4"):
        for extension in ("jpg", "mov", "txt"):
            named = Case(f"a.{extension}", partial(base, kind), "frames")
            found[f"{kind}-named-{extension}"] = named
    return found


def _videos() -> dict[str, Case]:
    return {
        f"video-{kind}": Case(_file_name(kind), partial(base, kind), recipe.verdict, recipe.is_slow)
        for kind, recipe in VIDEOS.items()
    }


def _file_name(kind: str) -> str:
    return "a." + kind.split("-")[0]


def _strangers() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for kind, data in STRANGERS.items():
        for extension in (kind, "png", "mp4"):
            case = Case(f"a.{extension}", partial(bytes, data), "refused")
            found[f"{kind}-as-{extension}"] = case
    return found
