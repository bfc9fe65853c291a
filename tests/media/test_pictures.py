"""Pictures arrive upright, in sRGB, on white, within their memory."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from nbp_core.media.files import MAX_FRAME_PIXELS, Frames, MediaError
from nbp_core.media.pictures import read_image
from nbp_core.media.video import read_context, read_window
from tests.support.charts import (
    ADOBE_RGB,
    COLOURS,
    DISPLAY_P3,
    PROPHOTO,
    SRGB,
    chart,
    error,
    icc_profile,
    in_profile,
    patches,
    run_ffmpeg,
)
from tests.support.heic import write_heic
from tests.support.odd_uploads import chunk

PROFILES = {"p3": (DISPLAY_P3, 2.2), "adobe": (ADOBE_RGB, 2.2), "prophoto": (PROPHOTO, 1.8)}
# The wider a gamut, the fewer levels are left for a colour of sRGB, and losses count for more.
ALLOWED = {"p3": (2, 6), "adobe": (3, 10), "prophoto": (6, 30)}
LOSSY = ("jpg", "avif")
KINDS: dict[str, dict[str, Any]] = {
    "png": {}, "jpg": {"quality": 95, "subsampling": 0}, "webp": {"lossless": True},
    "tif": {}, "avif": {"quality": 100},
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("profile", PROFILES)
def test_colours_are_shown_in_srgb(tmp_path: Path, profile: str, kind: str) -> None:
    primaries, gamma = PROFILES[profile]
    coded = Image.fromarray(in_profile(chart(320, 240), primaries, gamma))
    icc = icc_profile(primaries, gamma)
    coded.save(tmp_path / f"a.{kind}", icc_profile=icc, **KINDS[kind])
    assert error(read_image(tmp_path / f"a.{kind}")) <= ALLOWED[profile][kind in LOSSY]
    assert error(np.asarray(coded)) > 30


def test_transparent_pictures_with_a_profile_lie_on_white(tmp_path: Path) -> None:
    coded = Image.fromarray(in_profile(chart(), DISPLAY_P3, 2.2)).convert("RGBA")
    mask = np.full((120, 160), 255, np.uint8)
    mask[:, 80:] = 0
    coded.putalpha(Image.fromarray(mask))
    coded.save(tmp_path / "a.png", icc_profile=icc_profile(DISPLAY_P3, 2.2))
    found = patches(read_image(tmp_path / "a.png"))
    assert np.abs(found[:, :2] - COLOURS[:, :2]).max() <= 3
    assert (found[:, 2:] == 255).all()


@pytest.mark.parametrize("header_bytes", [108, 124])
def test_an_unused_byte_of_a_bmp_is_no_transparency(tmp_path: Path, header_bytes: int) -> None:
    def bmp(alpha: Frames) -> Path:
        pixels = np.concatenate([chart()[::-1, :, ::-1], alpha[::-1]], -1).tobytes()
        masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        info = struct.pack("<IiiHHII16x", header_bytes, 160, 120, 1, 32, 3, len(pixels)) + masks
        start = 14 + header_bytes
        file = struct.pack("<2sI4xI", b"BM", start + len(pixels), start)
        (tmp_path / "a.bmp").write_bytes(file + info.ljust(header_bytes, b"\0") + pixels)
        return tmp_path / "a.bmp"

    alpha = np.zeros((120, 160, 1), np.uint8)
    assert error(read_image(bmp(alpha))) == 0
    alpha[:, :80] = 255
    found = patches(read_image(bmp(alpha)))
    assert np.array_equal(found[:, :2], COLOURS[:, :2])
    assert (found[:, 2:] == 255).all()


@pytest.mark.parametrize("white", [65535, 4095, 1000])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.003])
def test_a_dark_pgm_of_16_bits_stays_dark(tmp_path: Path, white: int, share: float) -> None:
    values = np.linspace(0, white * share, 64).round().astype(">u2").repeat(8)
    header = f"P5 64 8 {white}\n".encode()
    rows = values.reshape(64, 8).T.tobytes()
    (tmp_path / "a.pgm").write_bytes(header + rows)
    found = read_image(tmp_path / "a.pgm")[0, :, 0]
    assert np.abs(found - values[::8] / white * 255).max() <= 1


RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def gif_of(path: Path, *frames: tuple[int, int, int, int, int]) -> Path:
    """A GIF of 40 x 40 pixels with a blue background, of squares without transparency.

    frames: left, top, side, colour (0 to 2) and what becomes of it before the next frame.
    """
    data = (
        b"GIF89a"
        + struct.pack("<HHBBB", 40, 40, 0xF1, 2, 0)
        + bytes([*RED, *GREEN, *BLUE, 0, 0, 0])
    )
    for left, top, side, colour, disposal in frames:
        data += b"!\xf9\4" + struct.pack("<BHB", disposal << 2, 13, 0) + b"\0"
        data += b"," + struct.pack("<HHHHB", left, top, side, side, 0)
        # Codes of 3 bits, which a "clear" (4) before every two pixels keeps so short; 5 is the end.
        codes = [4, colour, colour] * (side * side // 2) + [5]
        bits = "".join(f"{code:03b}" for code in reversed(codes))
        packed = int(bits, 2).to_bytes(-(-len(bits) // 8), "little")
        blocks = (packed[at : at + 255] for at in range(0, len(packed), 255))
        data += b"\2" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0"
    path.write_bytes(data + b";")
    return path


def corners(frame_HWC: Frames) -> list[tuple[int, ...]]:
    return [tuple(frame_HWC[y, x].tolist()) for y, x in ((5, 5), (5, 35), (35, 5), (35, 35))]


def test_what_no_frame_of_a_gif_covers_is_white(tmp_path: Path) -> None:
    path = gif_of(tmp_path / "a.gif", (0, 0, 20, 0, 1), (20, 20, 20, 1, 1))
    assert corners(read_image(path)) == [RED, WHITE, WHITE, WHITE]
    first, second = read_context(path, 2)
    assert corners(first) == [RED, WHITE, WHITE, WHITE]
    assert corners(second) == [RED, WHITE, WHITE, GREEN]


@pytest.mark.parametrize(("disposal", "below"), [(1, RED), (2, WHITE), (3, WHITE)])
def test_what_becomes_of_the_first_frame_of_a_gif(
    tmp_path: Path, disposal: int, below: tuple[int, ...]
) -> None:
    path = gif_of(tmp_path / "a.gif", (0, 0, 40, 0, disposal), (20, 20, 20, 1, 3), (0, 0, 20, 2, 1))
    first, second, third = read_context(path, 3)
    assert corners(first) == [RED] * 4
    assert corners(second) == [below, below, below, GREEN]
    assert corners(third) == [BLUE, below, below, below]
    assert np.array_equal(read_window(path, 3)[1], second)


def test_a_frame_of_a_gif_is_cut_to_the_screen(tmp_path: Path) -> None:
    path = gif_of(tmp_path / "a.gif", (0, 0, 40, 0, 1), (20, 20, 40, 1, 1))
    frames = read_context(path, 2)
    assert frames.shape == (2, 40, 40, 3)
    assert corners(frames[1]) == [RED, RED, RED, GREEN]


DAMAGED_NOTES = {
    "text": (b"tEXt", b"Title\0a", b"\0\0\0\0"),
    "time": (b"tIME", b"\7\xe0\1\1\0\0\0", b"\0\0\0\0"),
    "gamma": (b"gAMA", b"\0\0\xb1\x8f", b"\0\0\0\0"),
    "short transparency": (b"tRNS", b"\0\1", None),
    "long transparency": (b"tRNS", bytes(12), None),
}


@pytest.mark.parametrize("note", DAMAGED_NOTES)
def test_a_damaged_note_in_a_png_is_left_out(tmp_path: Path, note: str) -> None:
    kind, content, checksum = DAMAGED_NOTES[note]
    Image.fromarray(chart()).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    damaged = chunk(kind, content)
    damaged = damaged if checksum is None else damaged[:-4] + checksum
    # After the signature and the header.
    (tmp_path / "a.png").write_bytes(data[:33] + damaged + data[33:])
    assert error(read_image(tmp_path / "a.png")) == 0
    assert read_context(tmp_path / "a.png").shape == (1, 120, 160, 3)


@pytest.mark.parametrize("kind", [b"IHDR", b"PLTE", b"IDAT"])
def test_a_damaged_chunk_that_a_png_needs_is_damage(tmp_path: Path, kind: bytes) -> None:
    Image.fromarray(chart()).quantize(16).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[data.index(kind) + 8] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(MediaError, match="is damaged"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("kind", ["jpg", "webp", "png", "avif"])
def test_an_orientation_in_xmp_alone_turns_nothing(tmp_path: Path, kind: str) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6"/></x:xmpmeta>'
    exif = Image.Exif()
    exif[0x011A] = 72.0
    for known in ({}, {"exif": exif.tobytes()}):
        options: dict[str, Any] = {**KINDS[kind], **known, "xmp": xmp}
        if kind == "png":
            options["pnginfo"] = PngInfo()
            options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
        Image.fromarray(chart()).save(tmp_path / f"a.{kind}", **options)
        assert error(read_image(tmp_path / f"a.{kind}")) <= 4
    turned = Image.fromarray(chart()).transpose(Image.Transpose.ROTATE_90)
    exif[0x0112] = 6
    turned.save(tmp_path / f"a.{kind}", **{**options, "exif": exif.tobytes()})
    assert error(read_image(tmp_path / f"a.{kind}")) <= 4


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("cut", [1, 2])
def test_a_jpeg_without_the_marker_of_its_end_is_read(tmp_path: Path, mode: str, cut: int) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(chart(640, 480)).convert(mode).save(path, quality=95)
    whole = read_image(path)
    path.write_bytes(path.read_bytes()[:-cut])
    assert np.array_equal(read_image(path), whole)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("cut", [6, 40, 3000])
def test_a_jpeg_that_lacks_more_is_damaged(tmp_path: Path, progressive: bool, cut: int) -> None:
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3)).astype(np.uint8)
    Image.fromarray(noise).save(path, quality=95, progressive=progressive)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(MediaError, match="is damaged"):
        read_image(path)


def test_a_jpeg_that_lacks_whole_scans_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(chart(320, 240)).save(path, progressive=True)
    data = path.read_bytes()
    path.write_bytes(data[: data.rindex(b"\xff\xda")])
    with pytest.raises(MediaError, match="is damaged"):
        read_image(path)


def test_a_grey_profile_is_followed(tmp_path: Path) -> None:
    levels = np.linspace(0, 255, 64).round().astype(np.uint8)
    grey = Image.fromarray(np.repeat(levels[None], 16, 0))
    grey.save(tmp_path / "a.png", icc_profile=icc_profile(DISPLAY_P3, 1.0, b"GRAY"))
    expected = np.where(
        levels / 255 <= 0.0031308, levels / 255 * 12.92,
        1.055 * (levels / 255) ** (1 / 2.4) - 0.055,
    )  # fmt: skip
    grey.putalpha(Image.new("L", grey.size, 255))
    grey.save(tmp_path / "b.png", icc_profile=icc_profile(DISPLAY_P3, 1.0, b"GRAY"))
    for name in ("a.png", "b.png"):
        difference = np.abs(read_image(tmp_path / name)[0, :, 0] - expected * 255)
        # One level of linear grey is many of sRGB in the dark.
        assert difference[8:].max() <= 2
        assert difference.max() <= 12


def test_a_profile_is_followed_whatever_its_name(tmp_path: Path) -> None:
    coded = Image.fromarray(in_profile(chart(), SRGB, 1.0))
    coded.save(tmp_path / "a.png", icc_profile=icc_profile(SRGB, 1.0, name="linear sRGB"))
    assert error(read_image(tmp_path / "a.png")) <= 8
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(chart()).save(tmp_path / "b.png", icc_profile=own)
    assert np.array_equal(read_image(tmp_path / "b.png"), chart())


def test_one_deep_level_may_be_transparent(tmp_path: Path) -> None:
    ramp = np.full((8, 8), 2000, np.uint16)
    ramp[:, 4:] = 777
    Image.fromarray(ramp).save(tmp_path / "a.png", transparency=777)
    found = read_image(tmp_path / "a.png")
    assert (found[:, :4] == round(2000 / 257)).all()
    assert (found[:, 4:] == 255).all()


@pytest.mark.parametrize(
    "icc",
    [b"nonsense", b"", icc_profile(DISPLAY_P3, 2.2)[:200], icc_profile(DISPLAY_P3, 2.2, b"GRAY")],
)
def test_a_profile_that_does_not_fit_says_nothing(tmp_path: Path, icc: bytes) -> None:
    Image.fromarray(chart()).save(tmp_path / "a.png", icc_profile=icc)
    assert error(read_image(tmp_path / "a.png")) == 0


def test_cmyk_and_sixteen_bits_are_read(tmp_path: Path) -> None:
    Image.fromarray(chart()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert error(read_image(tmp_path / "a.jpg")) <= 6
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    found = read_image(tmp_path / "a.png")[..., 0]
    assert np.abs(found - ramp / 257).max() <= 0.5


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif", "avif"])
def test_pictures_are_upright(tmp_path: Path, kind: str, orientation: int) -> None:
    # What undoes each orientation.
    undo: dict[int, Callable[[Frames], Frames]] = {
        1: lambda f: f, 2: lambda f: f[:, ::-1], 3: lambda f: f[::-1, ::-1], 4: lambda f: f[::-1],
        5: lambda f: f.swapaxes(0, 1), 6: np.rot90, 8: lambda f: np.rot90(f, 3),
        7: lambda f: np.rot90(f.swapaxes(0, 1), 2),
    }  # fmt: skip
    stored = undo[orientation](chart())
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{kind}"
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **KINDS[kind])
    found = read_image(path)
    assert found.shape == (120, 160, 3)
    assert error(found) <= 3


@pytest.mark.parametrize("turns", range(4))
@pytest.mark.parametrize("tile", [None, 64])
def test_a_phones_heic_is_upright(tmp_path: Path, tile: int | None, turns: int) -> None:
    write_heic(tmp_path / "a.heic", np.rot90(chart(), -turns), tile=tile, turns=turns)
    found = read_image(tmp_path / "a.heic")
    assert found.shape == (120, 160, 3)
    assert error(found) <= 3


@pytest.mark.parametrize("brand", [b"mif1", b"msf1", b"heix", b"hevc", b"heim"])
def test_a_heic_of_another_brand_is_a_picture(tmp_path: Path, brand: bytes) -> None:
    path = tmp_path / "a.hif"
    write_heic(path, chart())
    path.write_bytes(path.read_bytes().replace(b"ftypheic", b"ftyp" + brand, 1))
    assert error(read_image(path)) <= 3


def test_the_profile_of_a_phones_heic_is_followed(tmp_path: Path) -> None:
    coded = in_profile(chart(), DISPLAY_P3, 2.2)
    write_heic(tmp_path / "a.heic", coded, tile=64, profile=icc_profile(DISPLAY_P3, 2.2))
    assert error(read_image(tmp_path / "a.heic")) <= 6
    assert error(coded) > 30


def test_large_pictures_are_reduced_with_their_shape(tmp_path: Path) -> None:
    for kind in KINDS:
        path = tmp_path / f"a.{kind}"
        Image.fromarray(chart(2400, 1800)).save(path, **KINDS[kind])
        found = read_image(path)
        assert found.shape[1] / found.shape[0] == pytest.approx(4 / 3, rel=0.01)
        assert 0.5 * MAX_FRAME_PIXELS < found.shape[0] * found.shape[1] <= 1.01 * MAX_FRAME_PIXELS
        assert error(found) <= 3
    strip = np.zeros((128, 128 * 65, 3), np.uint8)
    Image.fromarray(strip).save(tmp_path / "strip.png")
    assert read_image(tmp_path / "strip.png", max_pixels=strip.size).shape == strip.shape


_GROWTH = """
import resource, sys
from nbp_core.media.video import read_context
def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))
before = memory("VmRSS")
with open("/proc/self/clear_refs", "w") as refs:
    refs.write("5")
read_context(sys.argv[1], 5)
child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print((memory("VmHWM") - before + child) / 1000)
"""


def growth_mb(path: Path) -> float:
    """How much a process and its ffmpeg take at most, beyond what it took before the file."""
    command = [sys.executable, "-c", _GROWTH, str(path)]
    return float(subprocess.run(command, check=True, capture_output=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measured by Linux")
@pytest.mark.parametrize("kind", ["jpg", "progressive.jpg", "png", "rgba.png", "tif", "avif"])
def test_a_picture_of_fifty_megapixels_takes_little_memory(tmp_path: Path, kind: str) -> None:
    picture = Image.effect_noise((512, 384), 60).convert("RGB").resize((8192, 6144))
    if kind.startswith("rgba"):
        picture.putalpha(200)
    options: dict[str, Any] = {"quality": 90} if kind.endswith(("jpg", "avif")) else {}
    if kind.startswith("progressive"):
        options |= {"progressive": True, "subsampling": 0}
    picture.save(tmp_path / f"a.{kind}", **options)
    assert growth_mb(tmp_path / f"a.{kind}") < 600


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measured by Linux")
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv420p10"])
def test_a_heic_of_fifty_megapixels_takes_little_memory(tmp_path: Path, pixels: str) -> None:
    side = 2016
    tile = np.asarray(Image.effect_noise((side, side), 60).convert("RGB"))
    picture = np.tile(tile, (3, 4, 1))
    write_heic(tmp_path / "a.heic", picture, tile=side, pixels=pixels)
    assert growth_mb(tmp_path / "a.heic") < 600


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measured by Linux")
def test_a_phones_clip_of_five_hundred_megabytes_takes_little_memory(tmp_path: Path) -> None:
    noise = "-f lavfi -i nullsrc=size=3840x2160:rate=30,geq=random(1)*255:128:128 -frames:v 2"
    options = "-pix_fmt yuv420p -c:v libx264 -preset ultrafast -qp 1"
    run_ffmpeg(f"{noise} {options}", tmp_path / "part.mp4")
    (tmp_path / "list.txt").write_text("file part.mp4\n" * 20)
    clip = tmp_path / "a.mp4"
    run_ffmpeg(f"-f concat -i {tmp_path / 'list.txt'} -c copy", clip)
    assert clip.stat().st_size > 500_000_000
    assert growth_mb(clip) < 600
    assert read_context(clip, 5).shape[0] == 5


def test_a_clip_that_cannot_be_read_is_not_called_a_picture(tmp_path: Path) -> None:
    clips = dict.fromkeys(("junk.mp4", "junk.MOV", "junk.rm", "junk.wtv", "junk.3gp"), "clip")
    for name, word in {**clips, "junk.png": "picture"}.items():
        (tmp_path / name).write_bytes(b"no video at all")
        with pytest.raises(MediaError, match=rf"^{name} is not a {word} that can be read"):
            read_context(tmp_path / name)


@pytest.mark.parametrize(
    ("bits", "colour", "clear", "other", "level"),
    [(2, 0, (1,), (2,), 170), (4, 0, (7,), (10,), 170), (8, 0, (7,), (10,), 10),
     (16, 0, (4097,), (4112,), 16), (16, 2, (257, 512, 999), (4112, 4112, 4112), 16)],
)  # fmt: skip
def test_one_colour_of_any_depth_may_be_transparent(
    tmp_path: Path,
    bits: int,
    colour: int,
    clear: tuple[int, ...],
    other: tuple[int, ...],
    level: int,
) -> None:
    """Eight pixels, of which the left half is transparent."""
    values = (*clear * 4, *other * 4)
    row = int("".join(f"{value:0{bits}b}" for value in values), 2)
    data = b"\0" + row.to_bytes(len(values) * bits // 8, "big")
    header = struct.pack(">IIBBBBB", 8, 1, bits, colour, 0, 0, 0)
    marked = struct.pack(f">{len(clear)}H", *clear)
    parts = (
        chunk(b"IHDR", header), chunk(b"tRNS", marked), chunk(b"IDAT", zlib.compress(data)),
        chunk(b"IEND", b""),
    )  # fmt: skip
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    found = read_image(tmp_path / "a.png")
    assert (found[:, :4] == 255).all()
    assert (found[:, 4:] == level).all()


def tiff(values_HW: np.ndarray, photometric: int, sample_format: int) -> bytes:
    """A TIFF of one channel, as cameras and scanners write them."""
    pixels = values_HW.tobytes()
    height, width = values_HW.shape
    tags = {
        256: width, 257: height, 258: 8 * values_HW.itemsize, 259: 1, 262: photometric, 273: 8,
        277: 1, 278: height, 279: len(pixels), 339: sample_format,
    }  # fmt: skip
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    end = struct.pack("<H", len(tags)) + rows + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(pixels)) + pixels + end


RAMP = np.array([[0, 0.25, 0.75, 1]] * 4)
FLOATS = {
    "fractions": (RAMP, [0, 64, 191, 255]),
    "brighter than white": (1.2 * RAMP, [0, 77, 229, 255]),
    "levels": (255 * RAMP, [0, 64, 191, 255]),
    "not a number": (np.where(RAMP == 0.25, np.nan, RAMP), [0, 0, 191, 255]),
    "infinite": (np.where(RAMP == 1, np.inf, RAMP), [0, 64, 191, 255]),
    "nothing": (RAMP * np.nan, [0, 0, 0, 0]),
}


@pytest.mark.parametrize("name", FLOATS)
def test_pictures_of_fractions_keep_their_levels(tmp_path: Path, name: str) -> None:
    values, expected = FLOATS[name]
    (tmp_path / "a.tif").write_bytes(tiff(values.astype(np.float32), 1, 3))
    assert read_image(tmp_path / "a.tif")[0, :, 0].tolist() == expected


@pytest.mark.parametrize("depth", [np.uint16, np.uint32, np.int16, np.int32])
def test_deep_whole_numbers_keep_their_levels(tmp_path: Path, depth: type) -> None:
    values: np.ndarray = (RAMP * np.iinfo(depth).max).astype(depth)
    is_signed = np.issubdtype(depth, np.signedinteger)
    (tmp_path / "a.tif").write_bytes(tiff(values, 1, 1 + is_signed))
    found = read_image(tmp_path / "a.tif")[0, :, 0]
    assert np.abs(found.astype(int) - [0, 64, 191, 255]).max() <= 1


@pytest.mark.parametrize(("depth", "sample_format"), [(np.float64, 3), (np.float16, 3),
                                                      (np.int8, 2), (np.uint64, 1)])  # fmt: skip
def test_numbers_that_cannot_be_read_are_one_sentence(
    tmp_path: Path, depth: type, sample_format: int
) -> None:
    (tmp_path / "a.tif").write_bytes(tiff((100 * RAMP).astype(depth), 1, sample_format))
    with pytest.raises(MediaError, match=r"^a\.tif is a TIFF of a kind that is not supported"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_scanned_negative_is_shown_as_the_picture(tmp_path: Path, depth: type) -> None:
    values: np.ndarray = (RAMP * np.iinfo(depth).max).astype(depth)
    (tmp_path / "a.tif").write_bytes(tiff(values, 0, 1))
    assert (
        np.abs(read_image(tmp_path / "a.tif")[0, :, 0].astype(int) - [255, 191, 64, 0]).max() <= 1
    )


def test_a_damaged_heic_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "a.heic"
    write_heic(path, chart())
    data = path.read_bytes()
    for cut in (60, len(data) // 2, len(data) - 20):
        path.write_bytes(data[:cut])
        with pytest.raises(MediaError, match=r"^a\.heic is (damaged|not a picture that can be)"):
            read_image(path)


def test_a_damaged_avif_is_one_sentence(tmp_path: Path) -> None:
    Image.fromarray(chart()).save(tmp_path / "a.avif")
    data = bytearray((tmp_path / "a.avif").read_bytes())
    data[-40:] = bytes(40)
    (tmp_path / "a.avif").write_bytes(data)
    with pytest.raises(MediaError, match=r"^a\.avif is damaged"):
        read_image(tmp_path / "a.avif")


@pytest.mark.parametrize("side", [12_000, 20_000])
@pytest.mark.parametrize("read", [read_context, lambda path: read_window(path, 17)])
def test_a_later_frame_may_not_be_too_large_either(
    tmp_path: Path, side: int, read: Callable[[Path], Frames]
) -> None:
    first, *others = (Image.fromarray(frame[:4, :4]) for frame in (chart(), 255 - chart(), chart()))
    first.save(tmp_path / "a.gif", save_all=True, append_images=others, duration=100, disposal=2)
    data = bytearray((tmp_path / "a.gif").read_bytes())
    second = [k for k in range(len(data)) if data[k : k + 9] == b",\0\0\0\0\4\0\4\0"][1]
    data[second + 5 : second + 9] = struct.pack("<HH", side, side)
    (tmp_path / "a.gif").write_bytes(data)
    with pytest.raises(MediaError, match=r"is too large: .* 64 megapixels"):
        read(tmp_path / "a.gif")
