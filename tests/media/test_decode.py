"""Videos of every kind give their colours, upright, in their aspect, or one sentence."""

from __future__ import annotations

import struct
from collections.abc import Callable
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nbp_core.media import ffmpeg
from nbp_core.media.files import MAX_FRAME_PIXELS, Frames, MediaError
from nbp_core.media.pictures import read_image
from nbp_core.media.video import read_context, read_video, read_window, read_windows
from tests.support.charts import (
    DISPLAY_P3,
    SRGB,
    chart,
    encode,
    error,
    numbered,
    numbers,
    patches,
    run_ffmpeg,
    with_display_matrix,
)

X264 = "-c:v libx264 -preset ultrafast -pix_fmt yuv420p"
X265 = "-c:v libx265 -preset ultrafast -x265-params log-level=0"
TAGGED_709 = "-vf scale=out_color_matrix=bt709 -colorspace bt709"

FORMATS = {
    "h264.mp4": X264,
    "h264-bt709.mp4": f"{TAGGED_709} {X264}",
    "h264-full-range.mp4": f"-vf scale=out_range=pc -color_range pc {X264}",
    "h264-444.mkv": "-c:v libx264 -pix_fmt yuv444p",
    "h264-10-bits.mov": "-c:v libx264 -pix_fmt yuv420p10le",
    "h264.ts": X264,
    "h264.m2ts": f"{X264} -mpegts_m2ts_mode 1 -f mpegts",
    "h264.264": f"{X264} -f h264",
    "hevc.mp4": f"{X265} -tag:v hvc1",
    "hevc-10-bits.mov": f"{X265} -tag:v hvc1 -pix_fmt yuv420p10le",
    "av1.mp4": "-c:v libsvtav1 -preset 12 -pix_fmt yuv420p",
    "av1.obu": "-c:v libsvtav1 -preset 12 -pix_fmt yuv420p",
    "vvc.266": "-c:v libvvenc -preset faster -pix_fmt yuv420p10le -f vvc",
    "av1-10-bits.webm": "-c:v libsvtav1 -preset 12 -pix_fmt yuv420p10le",
    "vp8.webm": "-c:v libvpx -deadline realtime",
    "vp9.webm": "-c:v libvpx-vp9 -deadline realtime",
    "vp9-10-bits.mkv": "-c:v libvpx-vp9 -deadline realtime -pix_fmt yuv420p10le",
    "mpeg1.mpg": "-c:v mpeg1video -q:v 2",
    "mpeg2.mpg": "-c:v mpeg2video -q:v 2",
    "mpeg2.ts": "-c:v mpeg2video -q:v 2",
    "mpeg4.avi": "-c:v mpeg4 -q:v 2",
    "mjpeg.avi": "-c:v mjpeg -q:v 2",
    "prores.mov": "-c:v prores_ks",
    "dv.dv": "-s 720x576 -pix_fmt yuv420p -c:v dvvideo -f dv",
    "dv.avi": "-s 720x576 -pix_fmt yuv420p -c:v dvvideo",
    "ffv1.mkv": "-c:v ffv1",
    "huffyuv.avi": "-c:v huffyuv",
    "raw.avi": "-c:v rawvideo -pix_fmt bgr24",
    "png.mov": "-c:v png",
    "theora.ogv": "-c:v libtheora -q:v 10",
    "wmv.wmv": "-c:v wmv2 -q:v 2",
    "flv.flv": "-c:v flv -q:v 2",
    "dnxhr.mxf": "-vf scale=256:144:out_color_matrix=bt709 -c:v dnxhd -profile:v dnxhr_hqx"
    " -pix_fmt yuv422p10le",
}  # fmt: skip
FIXED_RATES = {
    "av1.obu",
    "vvc.266",
    "dnxhr.mxf",
    "mpeg1.mpg",
    "mpeg2.mpg",
    "mpeg2.ts",
    "dv.dv",
    "dv.avi",
    "h264.264",
}


@pytest.mark.parametrize("name", FORMATS)
def test_every_codec_gives_the_chart(tmp_path: Path, name: str) -> None:
    rate = "25" if name in FIXED_RATES else "8"
    path = encode(tmp_path / name, numbered(18), FORMATS[name], rate)
    frames = read_context(path)
    assert max(map(error, frames)) <= 3
    expected = [0, 3, 6, 9, 12] if rate == "25" else [0, 1, 2, 3, 4]
    # A codec may be off by the few levels that a number is apart from the next.
    assert np.abs(np.subtract(numbers(frames)[:5], expected)).max() <= 1


INTERLACED = {
    "h264.mp4": "-c:v libx264 -x264opts tff=1 -pix_fmt yuv420p",
    "h264.mkv": "-c:v libx264 -x264opts bff=1 -pix_fmt yuv420p",
    "mpeg2.mpg": "-c:v mpeg2video -q:v 2 -flags +ildct+ilme",
    "mpeg4.avi": "-c:v mpeg4 -q:v 2 -flags +ildct+ilme",
    "prores.mov": "-vf setfield=tff -c:v prores_ks -flags +ildct+ilme",
    "dv.avi": "-s 720x576 -pix_fmt yuv420p -vf setfield=bff -c:v dvvideo",
    "mjpeg.mov": "-vf setfield=tff -field_order tt -c:v mjpeg -q:v 2",
}


@pytest.mark.parametrize("name", INTERLACED)
def test_interlaced_frames_are_read_whole(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, numbered(25), INTERLACED[name], "25")
    assert max(map(error, read_context(path, 5))) <= 4
    assert max(map(error, read_window(path, 17))) <= 4


def moving_bar() -> Frames:
    frames = np.zeros((50, 96, 128, 3), np.uint8)
    for index, frame in enumerate(frames):
        frame[:, index : index + 30] = 255
    return frames


def test_fields_of_two_times_are_not_shown_as_a_comb(tmp_path: Path) -> None:
    options = "-vf tinterlace=interleave_top,setfield=tff -c:v ffv1 -field_order tt"
    path = encode(tmp_path / "a.mkv", moving_bar(), options, "50")
    rows = read_context(path, 5)[1:].astype(int).mean(-1)
    assert np.abs(np.diff(rows, axis=1)).mean() < 1


@pytest.mark.parametrize(("order", "lines"), [("tff", "top"), ("bff", "bottom")])
def test_fields_are_joined_before_they_are_turned(tmp_path: Path, order: str, lines: str) -> None:
    options = (
        f"-vf tinterlace=interleave_{lines},setfield={order} -c:v libx264 -x264opts {order}=1"
        " -pix_fmt yuv420p"
    )
    path = encode(tmp_path / "a.mp4", moving_bar(), options, "50")
    upright = read_context(path, 5)
    with_display_matrix(path, (0, 1, -1, 0))
    assert np.array_equal(read_context(path, 5), np.rot90(upright, 3, (1, 2)))
    with_display_matrix(path, (0, -1, 1, 0))
    assert np.array_equal(read_context(path, 5), np.rot90(upright, 1, (1, 2)))


@pytest.mark.parametrize("order", [1, 6, 9, 14])
def test_any_order_of_fields_hides_no_stream(tmp_path: Path, order: int) -> None:
    untagged = "scale=out_color_matrix=bt709,format=yuv444p10,setparams=colorspace=unknown"
    options = f"-vf {untagged} -c:v prores_ks"
    path = encode(tmp_path / "a.mov", numbered(2, 1280, 720), options)
    data = path.read_bytes()
    assert b"fiel\1\0" in data
    path.write_bytes(data.replace(b"fiel\1\0", b"fiel\2" + bytes([order])))
    assert error(read_context(path, 1)[0]) <= 3


@pytest.mark.parametrize("side", [4, 8, 12, 16])
@pytest.mark.parametrize("pixels", ["yuv420p", "yuv411p", "yuv410p", "gbrp"])
def test_the_smallest_frames_are_read(tmp_path: Path, pixels: str, side: int) -> None:
    frames = np.full((3, side, side, 3), 90, np.uint8)
    path = encode(tmp_path / "a.nut", frames, f"-c:v rawvideo -pix_fmt {pixels}")
    assert np.abs(read_context(path, 3).astype(int) - frames).max() <= 2


MATRICES = {
    (1, 0, 0, 1): lambda f: f,
    (-1, 0, 0, 1): lambda f: f[:, :, ::-1],
    (1, 0, 0, -1): lambda f: f[:, ::-1],
    (-1, 0, 0, -1): lambda f: f[:, ::-1, ::-1],
    (0, 1, 1, 0): lambda f: f.swapaxes(1, 2),
    (0, 1, -1, 0): lambda f: np.rot90(f, 1, (1, 2)),
    (0, -1, 1, 0): lambda f: np.rot90(f, 3, (1, 2)),
    (0, -1, -1, 0): lambda f: np.rot90(f.swapaxes(1, 2), 2, (1, 2)),
}


@pytest.mark.parametrize("matrix", MATRICES)
def test_turns_and_flips_of_the_display_matrix_are_undone_once(
    tmp_path: Path, matrix: tuple[int, int, int, int]
) -> None:
    path = encode(tmp_path / "a.mp4", MATRICES[matrix](numbered(6)), X264)
    with_display_matrix(path, matrix)
    frames = read_context(path, 5)
    assert frames.shape == (5, 120, 160, 3)
    assert error(frames[0]) <= 3


@pytest.mark.parametrize(
    ("ratio", "size"),
    [("64/45", (228, 120)), ("16/11", (233, 120)), ("8/9", (160, 135)), ("1/2", (160, 240)),
     ("1001/1000", (160, 120)), ("1000/1", (3200, 120))],
)  # fmt: skip
def test_pixels_that_are_not_square_are_shown_as_wide_as_they_are(
    tmp_path: Path, ratio: str, size: tuple[int, int]
) -> None:
    options = f"-vf setsar={ratio} {X264}"
    frames = read_context(encode(tmp_path / "a.mp4", numbered(6), options), 5)
    assert frames.shape[2:0:-1] == size
    assert error(frames[0]) <= 3


def test_a_turned_clip_of_wide_pixels_is_high(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", numbered(6), f"-vf setsar=2/1 {X264}")
    with_display_matrix(path, (0, 1, -1, 0))
    assert read_context(path, 5).shape == (5, 320, 120, 3)


def test_large_frames_are_reduced(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.mp4", numbered(6, 1920, 1080), f"{TAGGED_709} {X264}")
    _, height, width, _ = read_context(path, 5).shape
    assert 0.99 * MAX_FRAME_PIXELS < height * width < 1.01 * MAX_FRAME_PIXELS
    assert width / height == pytest.approx(16 / 9, rel=0.01)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (720, 600)])
def test_untagged_hd_is_bt709(tmp_path: Path, width: int, height: int) -> None:
    options = f"-vf scale=out_color_matrix=bt709,setparams=colorspace=unknown {X264}"
    path = encode(tmp_path / "a.mkv", numbered(6, width, height), options)
    assert error(read_context(path, 5)[0]) <= 3


def test_a_matrix_of_rgb_says_nothing_of_yuv(tmp_path: Path) -> None:
    frames = numbered(2, 1280, 720)
    mistagged = (
        f"-vf scale=out_color_matrix=bt709 {X264} -bsf:v h264_metadata=matrix_coefficients=0"
    )
    assert error(read_context(encode(tmp_path / "a.mp4", frames, mistagged), 1)[0]) <= 3
    for name, options in {"b.mkv": "-c:v ffv1 -pix_fmt gbrp", "c.mov": "-c:v png"}.items():
        assert error(read_context(encode(tmp_path / name, frames, options), 1)[0]) == 0


ODD_COLOURS = {
    "ycgco": "zscale=m=gbr,format=gbrp,zscale=m=ycgco,format=yuv444p",
    "linear": "format=gbrp16,setparams=color_primaries=bt709:color_trc=bt709:range=pc,"
    "zscale=t=linear,format=gbrp16",
}


@pytest.mark.parametrize("name", ODD_COLOURS)
def test_odd_matrices_and_linear_light_are_converted(tmp_path: Path, name: str) -> None:
    options = f"-vf {ODD_COLOURS[name]} -c:v ffv1"
    assert error(read_context(encode(tmp_path / "a.mkv", numbered(6), options), 5)[0]) <= 3


_LINEAR = (
    "format=gbrp16,setparams=color_primaries=bt709:color_trc=bt709:range=pc,"
    "zscale=t=linear:npl=203,format=gbrpf32"
)
_WIDE = "format=gbrp16,scale=out_color_matrix=bt2020:out_range=tv,format=yuv420p10"


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_hdr_is_tone_mapped(tmp_path: Path, transfer: str) -> None:
    tags = f"setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc={transfer}"
    options = f"-vf {_LINEAR},zscale=p=2020:t={transfer}:npl=203,{_WIDE},{tags} -c:v ffv1"
    frames = read_context(encode(tmp_path / "a.mkv", numbered(6), options), 5)
    assert max(map(error, frames)) <= 10


@pytest.mark.parametrize(("width", "height"), [(160, 120), (1280, 720)])
@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67", "bt2020-10"])
def test_wide_colours_without_a_matrix_have_that_of_bt2020(
    tmp_path: Path, transfer: str, width: int, height: int
) -> None:
    tags = f"setparams=colorspace=unknown:color_primaries=bt2020:color_trc={transfer}"
    code = "2020_10" if transfer == "bt2020-10" else transfer
    options = f"-vf {_LINEAR},zscale=p=2020:t={code}:npl=203,{_WIDE},{tags} -c:v ffv1"
    path = encode(tmp_path / "a.mkv", numbered(2, width, height), options)
    assert error(read_context(path, 1)[0]) <= 10


@pytest.mark.parametrize("transfer", ["smpte2084", "arib-std-b67"])
def test_light_brighter_than_white_keeps_its_order(tmp_path: Path, transfer: str) -> None:
    shades = np.linspace(60, 250, 8).round().astype(np.uint8)
    frames = np.repeat(shades[None, None, :, None], 6, 0).repeat(64, 1).repeat(16, 2).repeat(3, 3)
    # Nominal white four times as bright as diffuse white.
    bright = _LINEAR.replace("npl=203", "npl=800")
    tags = f"setparams=colorspace=bt2020nc:color_primaries=bt2020:color_trc={transfer}"
    options = f"-vf {bright},zscale=p=2020:t={transfer}:npl=800,{_WIDE},{tags} -c:v ffv1"
    row = read_context(encode(tmp_path / "a.mkv", frames, options), 5)[0, 32, 8::16].mean(-1)
    assert (np.diff(row) >= 0).all()
    assert row[3] < row[4] - 3 < row[-1] - 3
    assert row[4] < 255


@pytest.mark.parametrize(("primaries", "number"), [("bt2020", "2020"), ("smpte432", "smpte432")])
def test_wide_gamuts_are_shown_in_srgb(tmp_path: Path, primaries: str, number: str) -> None:
    options = (
        f"-vf {_LINEAR},zscale=p={number}:t=709,format=gbrp16,setparams=color_primaries={primaries}"
        ":color_trc=bt709 -c:v ffv1"
    )
    assert error(read_context(encode(tmp_path / "a.mkv", numbered(6), options), 5)[0]) <= 3


_SCREEN_CURVES = {
    "iec61966-2-1": lambda x: np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055),
    "bt470m": lambda x: x ** (1 / 2.2),
}


@pytest.mark.parametrize("transfer", _SCREEN_CURVES)
def test_wide_gamuts_keep_the_transfer_of_screens(tmp_path: Path, transfer: str) -> None:
    def coded(to_P3: np.ndarray) -> np.ndarray:
        levels = numbered(2) / 255
        linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
        return np.asarray(_SCREEN_CURVES[transfer]((linear @ to_P3.T).clip(0, 1)) * 255)

    def frame_of(levels: np.ndarray, primaries: str) -> np.ndarray:
        tags = f"setparams=color_primaries={primaries}:color_trc={transfer}"
        options = f"-vf format=gbrp,{tags} -c:v ffv1"
        path = encode(tmp_path / "a.mkv", levels.round().astype(np.uint8), options)
        return np.asarray(read_context(path, 1)[0])

    wide = frame_of(coded(np.linalg.inv(DISPLAY_P3) @ SRGB), "smpte432")
    assert np.abs(patches(wide) - patches(frame_of(coded(np.eye(3)), "bt709"))).max() <= 4


TRANSPARENT = {
    "png.mov": "-c:v png",
    "qtrle.mov": "-c:v qtrle",
    "prores.mov": "-c:v prores_ks -pix_fmt yuva444p10le",
    "ffv1.mkv": "-c:v ffv1 -pix_fmt rgba",
    "vp9.webm": "-c:v libvpx-vp9 -deadline realtime -pix_fmt yuva420p",
    "vp8.webm": "-c:v libvpx -deadline realtime -pix_fmt yuva420p -auto-alt-ref 0",
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_transparent_videos_lie_on_white_as_pictures_do(tmp_path: Path, name: str) -> None:
    alpha = np.full((6, 120, 160, 1), 255, np.uint8)
    alpha[:, :, 80:] = 0
    frames = np.concatenate([numbered(6), alpha], -1)
    found = patches(read_context(encode(tmp_path / name, frames, TRANSPARENT[name]), 5)[1])
    opaque = np.abs(found[:, :2] - patches(chart())[:, :2])
    opaque[1, 0] = 0
    assert opaque.max() <= 4
    assert np.abs(found[:, 2:] - 255).max() <= 3


CONVERTED = {
    "p3": "setparams=color_primaries=smpte432:color_trc=bt709:colorspace=bt709",
    "hlg": "setparams=color_primaries=bt2020:color_trc=arib-std-b67:colorspace=bt2020nc",
    "ycgco": "format=gbrap,zscale=m=ycgco,format=yuva444p,setparams=colorspace=ycgco",
}


@pytest.mark.parametrize("name", CONVERTED)
def test_transparency_outlives_a_conversion_of_colours(tmp_path: Path, name: str) -> None:
    alpha = np.full((2, 120, 160, 1), 255, np.uint8)
    options = f"-vf {CONVERTED[name]} -c:v ffv1"
    frames = np.concatenate([numbered(2), alpha], -1)
    opaque = read_context(encode(tmp_path / "a.mkv", frames, options), 1)[0]
    frames[:, :, 80:, 3] = 0
    found = read_context(encode(tmp_path / "b.mkv", frames, options), 1)[0]
    assert np.array_equal(found[:, :76], opaque[:, :76])
    assert (found[:, 84:] == 255).all()


@pytest.mark.parametrize("unused", [0, 7])
def test_an_unused_byte_is_no_transparency(tmp_path: Path, unused: int) -> None:
    frames = np.concatenate([numbered(6), np.full((6, 120, 160, 1), unused, np.uint8)], -1)
    # Without a code for the kind of its pixels, as screen recorders write it.
    path = encode(tmp_path / "a.avi", frames, "-c:v rawvideo -pix_fmt bgra")
    assert max(map(error, read_context(path, 5))) <= 1


def test_half_transparent_pixels_are_half_white(tmp_path: Path) -> None:
    frames = np.concatenate([numbered(6), np.full((6, 120, 160, 1), 128, np.uint8)], -1)
    found = patches(read_context(encode(tmp_path / "a.mov", frames, "-c:v png"), 5)[0])
    expected = patches(numbered(1)[0]) * 128 / 255 + 127
    assert np.abs(found - expected).max() <= 1.5


def test_sound_with_a_cover_is_no_clip(tmp_path: Path) -> None:
    cover = encode(tmp_path / "cover.png", numbered(1), "-frames:v 1")
    tone = "-f lavfi -i sine=duration=1"
    attached = {
        "a.mp4": f"-i {cover} -map 0 -map 1 -c:v copy -disposition:v attached_pic",
        "a.mkv": f"-attach {cover} -metadata:s:t mimetype=image/png",
    }
    for name, options in attached.items():
        run_ffmpeg(f"{tone} {options} -c:a aac", tmp_path / name)
        with pytest.raises(MediaError, match="has sound but no moving pictures"):
            read_context(tmp_path / name)
    encode(tmp_path / "still.mp4", numbered(1), X264)
    with pytest.raises(MediaError, match="has one frame, which does not move"):
        read_window(tmp_path / "still.mp4", 17)
    run_ffmpeg(f"{tone} -c:a aac", tmp_path / "sound.mp4")
    with pytest.raises(MediaError, match="has sound but no moving pictures"):
        read_window(tmp_path / "sound.mp4", 17)


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "srt"), ("a.mp4", "mov_text")])
def test_subtitles_are_no_clip(tmp_path: Path, name: str, codec: str) -> None:
    (tmp_path / "a.srt").write_text("1\n00:00:00,000 --> 00:00:02,000\nHello\n")
    run_ffmpeg(f"-i {tmp_path / 'a.srt'} -c:s {codec}", tmp_path / name)
    for read in (read_context, lambda path: read_window(path, 17)):
        with pytest.raises(MediaError, match=f"^{name} has no moving pictures.$"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    "tags",
    ["colorspace=bt709:color_primaries=bt2020:color_trc=log100",
     "colorspace=bt709:color_primaries=bt709:color_trc=log316",
     "colorspace=ictcp:color_primaries=bt2020:color_trc=bt2020-10",
     "colorspace=chroma-derived-nc:color_primaries=smpte428:color_trc=bt709"],
)  # fmt: skip
def test_colours_that_cannot_be_converted_are_not_called_damage(tmp_path: Path, tags: str) -> None:
    path = encode(tmp_path / "a.mkv", numbered(2), f"-vf format=yuv420p,setparams={tags} -c:v ffv1")
    for read in (read_context, lambda path: read_window(path, 17)):
        with pytest.raises(MediaError, match="has colours of a kind that is not supported"):
            read(path)


def test_a_timecode_hides_no_stream(tmp_path: Path) -> None:
    untagged = f"-vf scale=out_color_matrix=bt709,setparams=colorspace=unknown {X264}"
    clip = encode(tmp_path / "a.mp4", numbered(8, 1280, 720), untagged)
    run_ffmpeg(f"-i {clip} -c copy -timecode 01:00:00:00", tmp_path / "a.mov")
    for frames in (read_context(tmp_path / "a.mov", 5), read_window(tmp_path / "a.mov", 5)):
        assert max(map(error, frames)) <= 3


def test_the_largest_of_several_pictures_is_shown(tmp_path: Path) -> None:
    small = encode(tmp_path / "s.mkv", np.zeros((8, 64, 64, 3), np.uint8), "-c:v ffv1")
    large = encode(tmp_path / "l.mkv", numbered(8), "-c:v ffv1")
    options = f"-i {small} -i {large} -map 0 -map 1 -c copy -disposition:v 0"
    run_ffmpeg(options, tmp_path / "a.mkv")
    assert error(read_context(tmp_path / "a.mkv", 5)[0]) <= 1


def test_a_stream_of_which_nothing_is_known_hides_no_other(tmp_path: Path) -> None:
    first = encode(tmp_path / "a.mp4", numbered(20), f"{X264} -g 100")
    second = encode(tmp_path / "b.mp4", numbered(20), X264)
    run_ffmpeg(f"-i {first} -i {second} -map 0 -map 1 -c copy", tmp_path / "c.ts")
    data = (tmp_path / "c.ts").read_bytes()
    packets = [data[at : at + 188] for at in range(0, len(data), 188)]
    # The packets of the first stream, up to the end of its only keyframe.
    firsts = [at for at, packet in enumerate(packets) if packet[1] & 31 == 1 and packet[2] == 0]
    starts = [at for at in firsts if packets[at][1] & 64]
    lost = {at for at in firsts if at < starts[1]}
    (tmp_path / "d.ts").write_bytes(
        b"".join(packet for at, packet in enumerate(packets) if at not in lost)
    )
    assert numbers(read_context(tmp_path / "d.ts", 5)) == [0, 1, 2, 3, 4]


def test_a_clip_that_changes_its_size_is_refused(tmp_path: Path) -> None:
    first = encode(tmp_path / "a.ts", numbered(8), X264)
    second = encode(tmp_path / "b.ts", numbered(8, 320, 180), X264)
    (tmp_path / "c.ts").write_bytes(first.read_bytes() + second.read_bytes())
    with pytest.raises(MediaError, match="changes its size or pixel format midway"):
        read_context(tmp_path / "c.ts")


LATER_TAGS = {
    "matrix": f"{TAGGED_709} {X264}",
    "range": f"-vf scale=out_range=pc -color_range pc {X264}",
    "aspect": f"-vf setsar=64/63 {X264}",
}


@pytest.mark.parametrize("suffix", ["ts", "264"])
@pytest.mark.parametrize("tags", LATER_TAGS)
def test_tags_of_colour_may_change_midway(tmp_path: Path, tags: str, suffix: str) -> None:
    frames = numbered(25)
    tagged_601 = f"-vf scale=out_range=tv -colorspace smpte170m -color_range tv {X264}"
    first = encode(tmp_path / f"a.{suffix}", frames[:6], tagged_601, "25")
    second = encode(tmp_path / f"b.{suffix}", frames[6:], LATER_TAGS[tags], "25")
    path = tmp_path / f"c.{suffix}"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    whole = read_video(path)[0]
    assert max(map(error, whole)) <= 4
    assert np.abs(np.subtract(numbers(whole), range(25))).max() <= 1
    (batch, _) = read_windows([path, first], 5)
    for some in (read_context(path, 5), read_window(path, 5), batch):
        assert not isinstance(some, MediaError)
        assert max(map(error, some)) <= 4


def test_a_clip_that_changes_its_pixel_format_is_refused(tmp_path: Path) -> None:
    first = encode(tmp_path / "a.ts", numbered(8), X264)
    second = encode(tmp_path / "b.ts", numbered(8), f"{TAGGED_709} -c:v libx264 -pix_fmt yuv422p")
    third = encode(tmp_path / "c.ts", numbered(8), f"{TAGGED_709} {X264}")
    parts = (first, third, second)
    (tmp_path / "d.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with pytest.raises(MediaError, match="changes its size or pixel format midway"):
        read_video(tmp_path / "d.ts")


DAMAGED = {
    "h264.mp4": f"{X264} -g 4",
    "ffv1.mkv": "-c:v ffv1",
    "mjpeg.avi": "-c:v mjpeg -q:v 3",
    "png.mov": "-c:v png",
    "prores.mov": "-c:v prores_ks",
}


@pytest.mark.parametrize("name", DAMAGED)
def test_frames_that_are_not_whole_are_an_error(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(-6, 7, (8, 120, 160, 3))
    frames = (numbered(8) + noise).clip(0, 255).astype(np.uint8)
    path = encode(tmp_path / name, frames, DAMAGED[name])
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = np.random.default_rng(1).bytes(300)
    path.write_bytes(data)
    for read in (read_context, lambda path: read_window(path, 17)):
        with pytest.raises(MediaError, match="is damaged"):
            read(path)


def test_a_log_that_is_too_long_to_be_read_hides_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "a.mkv", numbered(8), X264)
    assert len(read_video(path)[0]) == 8
    # Some lines after the description of the file.
    monkeypatch.setattr(ffmpeg, "_MAX_LOG_LINES", 40)
    with pytest.raises(MediaError, match="is damaged"):
        read_video(path)


def test_damage_beyond_the_frames_that_are_taken_harms_nothing(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.avi", numbered(40), "-c:v mjpeg -q:v 3")
    data = bytearray(path.read_bytes())
    start = len(data) * 3 // 4
    data[start : start + 300] = np.random.default_rng(1).bytes(300)
    path.write_bytes(data)
    assert numbers(read_context(path, 5)) == [0, 1, 2, 3, 4]


def test_a_broadcast_that_begins_between_two_keyframes_is_read(tmp_path: Path) -> None:
    path = encode(tmp_path / "a.ts", numbered(40), f"{X264} -g 12 -bf 2")
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 4 // 188 * 188 :])
    assert max(map(error, read_context(path, 5))) <= 3


def test_odd_metadata_of_its_pictures_is_no_damage_of_a_clip(tmp_path: Path) -> None:
    exif = b"Exif\0\0II*\0\xff\xff\xff\xff"
    segment = b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif
    pictures = b""
    for frame in numbered(6):
        whole = BytesIO()
        Image.fromarray(frame).save(whole, "JPEG", quality=95, subsampling=0)
        pictures += whole.getvalue()[:2] + segment + whole.getvalue()[2:]
    run_ffmpeg("-f mjpeg -r 8 -i pipe:0 -c copy", tmp_path / "a.avi", pictures)
    frames = read_context(tmp_path / "a.avi", 5)
    assert max(map(error, frames)) <= 3
    assert numbers(frames) == [0, 1, 2, 3, 4]


BETWEEN_KEYFRAMES = {
    "vp8.webm": "-c:v libvpx -deadline realtime",
    "vp9.webm": "-c:v libvpx-vp9 -deadline realtime",
    "av1.mkv": "-c:v libsvtav1 -preset 12",
    "h264.mkv": f"{X264} -bf 2",
    "hevc.mkv": X265,
    "mpeg2.mkv": "-c:v mpeg2video -q:v 2 -bf 2",
    "mpeg4.avi": "-c:v mpeg4 -q:v 2",
    "mpeg4.mkv": "-c:v mpeg4 -q:v 2 -bf 2",
    "msmpeg4.avi": "-c:v msmpeg4 -q:v 2",
    "wmv2.wmv": "-c:v wmv2 -q:v 2",
    "flv.flv": "-c:v flv -q:v 2",
    "theora.ogv": "-c:v libtheora -q:v 10",
}


@pytest.mark.parametrize("name", BETWEEN_KEYFRAMES)
def test_a_clip_that_begins_between_two_keyframes_is_read_from_the_second(
    tmp_path: Path, name: str
) -> None:
    whole = encode(tmp_path / name, numbered(40), f"{BETWEEN_KEYFRAMES[name]} -g 10", "25")
    path = tmp_path / f"cut-{name}"
    run_ffmpeg(f"-i {whole} -c copy -copyinkf -bsf:v noise=drop=lt(n\\,3)", path)
    (batch, _) = read_windows([path, path], 17)
    for frames in (read_context(path, 5), read_window(path, 17), batch, read_video(path)[0]):
        assert not isinstance(frames, MediaError)
        assert max(map(error, frames)) <= 4
        assert 10 <= min(numbers(frames)) <= 13


def test_a_clip_without_a_keyframe_is_damaged(tmp_path: Path) -> None:
    whole = encode(tmp_path / "a.avi", numbered(20), "-c:v mpeg4 -q:v 2 -g 100")
    run_ffmpeg(f"-i {whole} -c copy -copyinkf -bsf:v noise=drop=lt(n\\,3)", tmp_path / "b.avi")
    for read in (read_context, lambda path: read_window(path, 17)):
        with pytest.raises(MediaError, match="is damaged"):
            read(tmp_path / "b.avi")


def box(kind: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


FRAGMENTED = f"{X264} -movflags +frag_keyframe+empty_moov+default_base_moof"

BEGINNINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "cut in a packet.ts": (f"{X264} -g 1", lambda data: data[188 * 3 + 100 :]),
    "cut before the end of a packet.ts": (f"{X264} -g 1", lambda data: data[187:]),
    "cut.m2ts": (f"{X264} -g 1 -mpegts_m2ts_mode 1 -f mpegts", lambda data: data[150:]),
    "packets of 204 bytes.ts": (
        X264,
        lambda data: b"".join(data[at : at + 188] + bytes(16) for at in range(0, len(data), 188)),
    ),
    "text before the first frame.264": (
        X264,
        lambda data: b"\0\0\0\1\6\5\x10" + b"a" * 16 + b"\x80" + data,
    ),
    "zeros.264": (X264, lambda data: bytes(2) + data),
    "zeros.mpg": ("-c:v mpeg2video -q:v 2", lambda data: bytes(64) + data),
    "styp.mp4": (FRAGMENTED, lambda data: box(b"styp", b"msdh" + bytes(4)) + data),
    "uuid.mp4": (FRAGMENTED, lambda data: box(b"uuid", b"0" * 16) + data),
    "pdin.mp4": (FRAGMENTED, lambda data: box(b"pdin") + data),
    "sidx.mp4": (FRAGMENTED, lambda data: box(b"sidx", bytes(20)) + data),
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_files_with_an_odd_beginning_are_read(tmp_path: Path, name: str) -> None:
    options, changed = BEGINNINGS[name]
    path = encode(tmp_path / name, numbered(25), options, "25")
    path.write_bytes(changed(path.read_bytes()))
    assert max(map(error, read_context(path, 5))) <= 4


@pytest.mark.parametrize("kind", ["bmp", "ppm", "png", "gif", "tif"])
def test_a_picture_of_the_letter_g_is_no_transport_stream(tmp_path: Path, kind: str) -> None:
    grey = Image.new("RGB", (64, 64), (0x47, 0x47, 0x47))
    grey.save(tmp_path / f"a.{kind}")
    assert (read_image(tmp_path / f"a.{kind}") == 0x47).all()


def test_a_language_of_two_words_hides_no_stream(tmp_path: Path) -> None:
    path = encode(tmp_path / "v.mkv", numbered(8), X264)
    options = f"-i {path} -f lavfi -i sine=duration=1 -map 0 -map 1 -c:v copy -c:a aac"
    run_ffmpeg(options, tmp_path / "a.mkv")
    # Matroska has any text there: of equal length, so that no other byte changes.
    data = (tmp_path / "a.mkv").read_bytes()
    (tmp_path / "b.mkv").write_bytes(data.replace(b"\x22\xb5\x9c\x83und", b"\x22\xb5\x9c\x83e s"))
    assert b"e s" in (tmp_path / "b.mkv").read_bytes()
    assert numbers(read_context(tmp_path / "b.mkv", 5)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("name", "code"), [("a.mp4", b"avc1"), ("a.avi", b"FMP4")])
def test_an_unknown_codec_is_not_called_damage(tmp_path: Path, name: str, code: bytes) -> None:
    path = encode(tmp_path / name, numbered(8), X264 if name == "a.mp4" else "-c:v mpeg4")
    path.write_bytes(path.read_bytes().replace(code, b"zzzz"))
    sentence = f"{name} is encoded in a way that is not supported, or is encrypted."
    for read in (read_context, lambda path: read_window(path, 17)):
        with pytest.raises(MediaError, match=f"^{sentence}$"):
            read(path)


@pytest.mark.parametrize("fps", ["1000", "999", "30", "30000/1001"])
def test_any_rate_is_known(tmp_path: Path, fps: str) -> None:
    path = encode(tmp_path / "a.mp4", numbered(8), X264, fps)
    assert read_video(path)[1] == pytest.approx(float(Fraction(fps)), abs=0.01)
