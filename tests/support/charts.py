"""Clips whose colours, orientation and time can be measured, and ways to write them.

A chart has 4 x 3 patches of known colours; the corners differ. In clips, the first patch of the
middle row is a grey that tells the frame's number.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from nbp_core.media.files import Frames

COLOURS = np.array(
    [
        [(220, 30, 30), (30, 200, 40), (30, 40, 210), (230, 220, 40)],
        [(128, 128, 128), (200, 60, 200), (40, 200, 200), (240, 240, 240)],
        [(16, 16, 16), (180, 120, 60), (90, 140, 60), (255, 160, 120)],
    ]
)
_FIRST_GREY, _GREY_STEP = 40, 4


def chart(width: int = 160, height: int = 120) -> Frames:
    rows, columns = np.mgrid[:height, :width]
    return np.asarray(COLOURS[rows * 3 // height, columns * 4 // width], np.uint8)


def numbered(count: int, width: int = 160, height: int = 120) -> Frames:
    """So many charts with their numbers, up to 53."""
    frames_THWC = np.repeat(chart(width, height)[None], count, axis=0)
    greys = _FIRST_GREY + _GREY_STEP * np.arange(count)
    frames_THWC[:, height // 3 : 2 * height // 3, : width // 4] = greys[:, None, None, None]
    return frames_THWC


def patches(frame_HWC: Frames) -> np.ndarray:
    """The mean colour of the middle of each patch."""
    height, width = frame_HWC.shape[:2]
    means = np.zeros((3, 4, 3))
    for row in range(3):
        for column in range(4):
            top, bottom = (int((row + at) * height / 3) for at in (0.3, 0.7))
            left, right = (int((column + at) * width / 4) for at in (0.3, 0.7))
            cut = frame_HWC[top : bottom + 1, left : right + 1]
            means[row, column] = cut.reshape(-1, 3).mean(0)
    return means


def error(frame_HWC: Frames) -> float:
    """The largest difference of a patch from its colour, the number's left out."""
    difference = np.abs(patches(frame_HWC) - COLOURS)
    difference[1, 0] = 0
    return float(difference.max())


def numbers(frames_THWC: Frames) -> list[int]:
    """Which frames these are."""
    greys = [patches(frame)[1, 0].mean() for frame in frames_THWC]
    return [round((grey - _FIRST_GREY) / _GREY_STEP) for grey in greys]


def encode(path: Path, frames: Frames, options: str, fps: str = "8", before: str = "") -> Path:
    """Writes RGB or RGBA frames with the bundled ffmpeg."""
    _, height, width, depth = frames.shape
    kind = {3: "rgb24", 4: "rgba"}[depth]
    source = f"-f rawvideo -pix_fmt {kind} -s {width}x{height} -r {fps} -i pipe:0"
    run_ffmpeg(f"{before} {source} {options}", path, np.ascontiguousarray(frames).tobytes())
    return path


def run_ffmpeg(arguments: str, path: Path, data: bytes = b"") -> None:
    program = imageio_ffmpeg.get_ffmpeg_exe()
    subprocess.run(
        [program, "-v", "error", "-y", *arguments.split(), path],
        input=data, check=True, capture_output=True,
    )  # fmt: skip


def with_display_matrix(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Writes the four numbers that turn and mirror into an MP4's track header."""
    a, b, c, d = (number << 16 for number in matrix)
    data = bytearray(path.read_bytes())
    # The matrix follows the name of the box and 40 bytes of a version 0 header.
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def icc_profile(
    primaries_XYZ: np.ndarray, gamma: float, kind: bytes = b"RGB ", name: str = "test"
) -> bytes:
    """A matrix profile: the columns of `primaries_XYZ` are red, green and blue under D50."""
    curve = struct.pack(">4sIIH", b"curv", 0, 1, round(gamma * 256)) + b"\0\0"
    title = name.encode() + b"\0"
    text = struct.pack(">4sII", b"desc", 0, len(title)) + title + bytes(79)
    tags = {b"desc": text + bytes(-len(text) % 4), b"wtpt": _xyz([0.9642, 1, 0.8249])}
    if kind == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        for letter, column in zip(b"rgb", primaries_XYZ.T, strict=True):
            tags[bytes([letter]) + b"XYZ"] = _xyz(list(column))
            tags[bytes([letter]) + b"TRC"] = curve
    table, body, start = b"", b"", 128 + 4 + 12 * len(tags)
    for tag, data in tags.items():
        table += struct.pack(">4sII", tag, start + len(body), len(data))
        body += data
    header = struct.pack(
        ">I4sI4s4s4s12x4s28xIIII44x",
        start + len(body), b"test", 0x02100000, b"mntr", kind, b"XYZ ", b"acsp", 0,
        round(0.9642 * 65536), 65536, round(0.8249 * 65536),
    )  # fmt: skip
    return header + struct.pack(">I", len(tags)) + table + body


def _xyz(values: list[float]) -> bytes:
    return struct.pack(">4sI3i", b"XYZ ", 0, *(round(value * 65536) for value in values))


# Under D50, as a profile holds them.
DISPLAY_P3 = np.array(
    [[0.5151, 0.2920, 0.1571], [0.2412, 0.6922, 0.0666], [-0.0011, 0.0419, 0.7841]]
)
ADOBE_RGB = np.array([[0.6097, 0.2053, 0.1492], [0.3111, 0.6257, 0.0632], [0.0195, 0.0609, 0.7446]])
PROPHOTO = np.array([[0.7977, 0.1352, 0.0313], [0.2880, 0.7119, 0.0001], [0.0000, 0.0000, 0.8249]])
SRGB = np.array([[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]])


def in_profile(frame_HWC: Frames, primaries_XYZ: np.ndarray, gamma: float) -> Frames:
    """The same colours as a profile of these primaries and this gamma codes them."""
    levels = frame_HWC / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    other = linear @ (np.linalg.inv(primaries_XYZ) @ SRGB).T
    return np.asarray(np.round(other.clip(0, 1) ** (1 / gamma) * 255), np.uint8)
