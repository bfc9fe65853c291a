"""Pictures whose colours are stated without a profile are shown in sRGB."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nbp_core.media.files import MediaError
from nbp_core.media.pictures import read_image
from nbp_core.media.video import read_context
from tests.support.charts import (
    ADOBE_RGB,
    DISPLAY_P3,
    SRGB,
    chart,
    encode,
    error,
    icc_profile,
    in_profile,
    numbered,
)
from tests.support.heic import write_heic

P3, BT2020 = 12, 9
GAMMA_22, LINEAR, PQ, HLG = 4, 8, 16, 18
NAMES = {GAMMA_22: "bt470m", PQ: "smpte2084", HLG: "arib-std-b67"}
CHROMATICITIES = {
    "p3": (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    "adobe": (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06),
}
PRIMARIES = {"p3": DISPLAY_P3, "adobe": ADOBE_RGB}


def png(path: Path, frame: np.ndarray, **chunks: bytes) -> None:
    info = PngInfo()
    for name, data in chunks.items():
        info.add(name.encode(), data)
    Image.fromarray(frame).save(path, pnginfo=info)


def gamma_chunk(gamma: float) -> bytes:
    return struct.pack(">I", round(100_000 / gamma))


def hdr(number: int) -> str:
    """The filters from sRGB to HDR in BT.2020 with diffuse white at 203 cd/m2."""
    return (
        "format=gbrp16,setparams=color_primaries=bt709:color_trc=iec61966-2-1:range=pc,"
        "zscale=t=linear:npl=203,format=gbrpf32,"
        f"zscale=p=2020:t={NAMES[number]}:npl=203,format=gbrp16"
    )


@pytest.mark.parametrize("gamma", [(2.2, GAMMA_22), (1.0, LINEAR)])
def test_code_points_of_a_png_are_followed(tmp_path: Path, gamma: tuple[float, int]) -> None:
    coded = in_profile(chart(), DISPLAY_P3, gamma[0])
    png(tmp_path / "a.png", coded, cICP=bytes([P3, gamma[1], 0, 1]))
    assert error(read_image(tmp_path / "a.png")) <= 4
    assert error(coded) > 30


@pytest.mark.parametrize("number", [PQ, HLG])
def test_hdr_stills_are_tone_mapped(tmp_path: Path, number: int) -> None:
    frames = chart()[None]
    png_options = f"-vf {hdr(number)},format=rgb48,setparams=color_primaries=bt2020"
    encode(tmp_path / "a.png", frames, f"{png_options}:color_trc={NAMES[number]} -frames:v 1")
    assert b"cICP" in (tmp_path / "a.png").read_bytes()
    tags = f"setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc={NAMES[number]}"
    avif = f"scale=out_color_matrix=bt2020:out_range=pc,format=yuv444p10,{tags}:range=pc"
    options = "-c:v libaom-av1 -cpu-used 8 -crf 3 -still-picture 1"
    encode(tmp_path / "a.avif", frames, f"-vf {hdr(number)},{avif} {options}")
    for name in ("a.png", "a.avif"):
        assert error(read_image(tmp_path / name)) <= 10
        assert error(read_context(tmp_path / name)[0]) <= 10


@pytest.mark.parametrize("number", [PQ, HLG])
def test_an_hdr_heic_is_tone_mapped(tmp_path: Path, number: int) -> None:
    points = (BT2020, number)
    path = tmp_path / "a.heic"
    write_heic(path, chart(), points=points, filters=hdr(number), pixels="yuv444p10")
    # It is converted in 8 bits, which costs some levels.
    assert error(read_image(path)) <= 15


@pytest.mark.parametrize("count", [1, 3])
def test_code_points_of_an_avif_are_followed(tmp_path: Path, count: int) -> None:
    frames = np.stack([in_profile(frame, DISPLAY_P3, 2.2) for frame in numbered(count)])
    tags = "setparams=colorspace=bt709:color_primaries=smpte432:color_trc=bt470m:range=pc"
    avif = f"scale=out_color_matrix=bt709:out_range=pc,format=yuv444p,{tags}"
    options = "-c:v libaom-av1 -cpu-used 8 -crf 3" + " -still-picture 1" * (count == 1)
    encode(tmp_path / "a.avif", frames, f"-vf {avif} {options}")
    found = read_context(tmp_path / "a.avif", 3)
    assert len(found) == count
    assert max(map(error, found)) <= 8


def test_a_transparent_picture_of_code_points_is_upright_on_white(tmp_path: Path) -> None:
    coded = Image.fromarray(np.rot90(in_profile(chart(), DISPLAY_P3, 2.2)))
    coded.putalpha(
        Image.fromarray(np.repeat(np.array([[255], [0]], np.uint8), 80, 0).repeat(120, 1))
    )
    exif, info = Image.Exif(), PngInfo()
    exif[0x0112] = 6
    info.add(b"cICP", bytes([P3, GAMMA_22, 0, 1]))
    coded.save(tmp_path / "a.png", pnginfo=info, exif=exif)
    found = read_image(tmp_path / "a.png")
    assert (found[:, :80] == 255).all()
    expected = chart()
    expected[:, :80] = found[:, :80]
    assert np.abs(found.astype(int) - expected).max() <= 4


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.2])
@pytest.mark.parametrize("name", PRIMARIES)
def test_the_gamma_of_a_png_is_followed(tmp_path: Path, name: str, gamma: float) -> None:
    numbers = struct.pack(">8I", *(round(100_000 * value) for value in CHROMATICITIES[name]))
    coded = in_profile(chart(), PRIMARIES[name], gamma)
    png(tmp_path / "a.png", coded, gAMA=gamma_chunk(gamma), cHRM=numbers)
    assert error(read_image(tmp_path / "a.png")) <= 4
    coded = in_profile(chart(), SRGB, gamma)
    png(tmp_path / "b.png", coded, gAMA=gamma_chunk(gamma))
    assert error(read_image(tmp_path / "b.png")) <= 4
    grey = coded[..., 0]
    png(tmp_path / "c.png", grey, gAMA=gamma_chunk(gamma))
    assert np.abs(read_image(tmp_path / "c.png")[..., 0].astype(int) - chart()[..., 0]).max() <= 4


@pytest.mark.parametrize(
    "chunks",
    [
        {"sRGB": b"\0", "gAMA": gamma_chunk(1.0)},
        {"gAMA": bytes(4)},
        {"cHRM": struct.pack(">8I", *(round(100_000 * v) for v in CHROMATICITIES["p3"]))},
        {"cICP": bytes([1, 13, 0, 1]), "gAMA": gamma_chunk(1.0)},
        {"cICP": bytes([2, 2, 0, 1])},
        {"cICP": bytes([12, 4])},
        {"gAMA": gamma_chunk(1.0), "cHRM": bytes(32)},
    ],
)
def test_what_states_srgb_or_nothing_changes_nothing(
    tmp_path: Path, chunks: dict[str, bytes]
) -> None:
    png(tmp_path / "a.png", chart(), **chunks)
    assert np.array_equal(read_image(tmp_path / "a.png"), chart())


def test_code_points_precede_a_profile_which_precedes_a_gamma(tmp_path: Path) -> None:
    info = PngInfo()
    info.add(b"gAMA", gamma_chunk(1.0))
    coded = in_profile(chart(), DISPLAY_P3, 2.2)
    icc = icc_profile(DISPLAY_P3, 2.2)
    Image.fromarray(coded).save(tmp_path / "a.png", pnginfo=info, icc_profile=icc)
    assert error(read_image(tmp_path / "a.png")) <= 2
    info.add(b"cICP", bytes([1, 13, 0, 1]))
    Image.fromarray(chart()).save(tmp_path / "b.png", pnginfo=info, icc_profile=icc)
    assert error(read_image(tmp_path / "b.png")) == 0


@pytest.mark.parametrize("code_points", [(1, 13, 0, 0), (P3, GAMMA_22, 1, 1), (P3, 17, 0, 1)])
def test_colours_that_cannot_be_converted_are_one_sentence(
    tmp_path: Path, code_points: tuple[int, ...]
) -> None:
    png(tmp_path / "a.png", chart(), cICP=bytes(code_points))
    with pytest.raises(MediaError, match=r"^a\.png has colours of a kind that is not supported\.$"):
        read_image(tmp_path / "a.png")


def test_only_the_header_of_a_picture_says_what_its_colours_are(tmp_path: Path) -> None:
    """A chunk behind the pixels says nothing."""
    png(tmp_path / "a.png", chart())
    data = (tmp_path / "a.png").read_bytes()
    late = struct.pack(">I4s4BI", 4, b"cICP", P3, PQ, 0, 1, 0)
    (tmp_path / "a.png").write_bytes(data[:-12] + late + data[-12:])
    assert error(read_image(tmp_path / "a.png")) == 0
