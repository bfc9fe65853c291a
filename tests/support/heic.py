"""Pictures as phones write them: HEIC files of one HEVC image or of a grid of tiles.

Neither Pillow nor ffmpeg writes such files, so the boxes (ISO/IEC 23008-12) are put together here.
"""

from __future__ import annotations

import struct
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nbp_core.media.files import Frames
from tests.support.charts import encode

_MATRIX = 6
_ENCODER = "-c:v libx265 -tag:v hvc1 -x265-params log-level=error:lossless=1"


def write_heic(
    path: Path,
    frame_HWC: Frames,
    *,
    tile: int | None = None,
    turns: int = 0,
    profile: bytes | None = None,
    points: tuple[int, int] = (1, 13),
    filters: str = "null",
    pixels: str = "yuv444p",
) -> None:
    """A picture that is shown after so many quarter turns to the left.

    tile: side of the squares of a grid that covers it; None for one image. profile: of ICC, else
    points, the primaries and transfer. filters: of ffmpeg, before the picture is encoded.
    """
    height, width = frame_HWC.shape[:2]
    side_h, side_w = (height, width) if tile is None else (tile, tile)
    rows, columns = -(-height // side_h), -(-width // side_w)
    padding = ((0, rows * side_h - height), (0, columns * side_w - width), (0, 0))
    covered_HWC = np.pad(frame_HWC, padding, mode="edge")
    tiles = [
        covered_HWC[row * side_h :, column * side_w :][:side_h, :side_w]
        for row in range(rows)
        for column in range(columns)
    ]
    convert = f"-vf {filters},scale=out_color_matrix=bt601:out_range=pc,format={pixels}"
    coded = [_coded(frame, f"{convert} {_ENCODER}") for frame in tiles]

    colours = (
        b"nclx" + struct.pack(">HHHB", *points, _MATRIX, 0x80)
        if profile is None
        else b"prof" + profile
    )
    decoder, tile_size, size, colour, turn = 1, 2, 3, 4, 5  # places in the list of properties
    properties = _box(b"ipco", coded[0][0], _extent(side_w, side_h), _extent(width, height),
                      _box(b"colr", colours), _box(b"irot", bytes([turns])))  # fmt: skip
    whole = len(tiles) + 1  # number of the grid; tiles are 1, 2, ...
    shown = 1 if tile is None else whole
    kinds = dict.fromkeys(range(1, whole), b"hvc1")
    has = {number: [decoder, tile_size, colour] for number in kinds}
    references, layout = b"", b""
    if tile is not None:
        kinds[whole], has[whole] = b"grid", [size, colour]
        layout = struct.pack(">BBBBHH", 0, 0, rows - 1, columns - 1, width, height)
        numbers = struct.pack(f">HH{len(tiles)}H", whole, len(tiles), *range(1, whole))
        references = _full_box(b"iref", 0, 0, _box(b"dimg", numbers))
    has[shown].append(turn)

    hidden = {number: int(number != shown) for number in kinds}
    entries = [
        _full_box(b"infe", 2, hidden[number], struct.pack(">HH", number, 0), kind, b"\0")
        for number, kind in kinds.items()
    ]
    items = _full_box(b"iinf", 0, 0, struct.pack(">H", len(entries)), *entries)
    assigned = b"".join(
        struct.pack(">HB", number, len(places)) + bytes(0x80 | place for place in places)
        for number, places in has.items()
    )
    assigned = _full_box(b"ipma", 0, 0, struct.pack(">I", len(has)), assigned)
    kind = _box(b"ftyp", b"heic", bytes(4), b"mif1heic")
    handler = _full_box(b"hdlr", 0, 0, bytes(4), b"pict", bytes(13))
    first = _full_box(b"pitm", 0, 0, struct.pack(">H", shown))
    before = [handler, first, items, references, _box(b"iprp", properties, assigned)]
    if layout:
        before.append(_box(b"idat", layout))
    sizes = [len(data) for _, data in coded]
    length = len(_meta(before, _places(0, sizes, layout)))
    places = _places(len(kind) + length + 8, sizes, layout)
    path.write_bytes(kind + _meta(before, places) + _box(b"mdat", *(data for _, data in coded)))


def _coded(frame_HWC: Frames, options: str) -> tuple[bytes, bytes]:
    """(the box with the decoder's parameters, the frame's data)."""
    with TemporaryDirectory() as folder:
        movie = encode(Path(folder) / "a.mp4", frame_HWC[None], options).read_bytes()
    start = movie.index(b"hvcC") - 4
    parameters = movie[start : start + struct.unpack_from(">I", movie, start)[0]]
    start = movie.index(b"mdat")
    return parameters, movie[start + 4 : start - 4 + struct.unpack_from(">I", movie, start - 4)[0]]


def _places(start: int, sizes: list[int], layout: bytes) -> bytes:
    """Where each item lies: tiles in the file, one behind the other, the grid in its own box."""
    found, at = [], start
    for number, size in enumerate(sizes, 1):
        found.append(struct.pack(">HHHHII", number, 0, 0, 1, at, size))
        at += size
    if layout:
        found.append(struct.pack(">HHHHII", len(sizes) + 1, 1, 0, 1, 0, len(layout)))
    return _full_box(b"iloc", 1, 0, struct.pack(">HH", 0x4400, len(found)), *found)


def _meta(boxes: list[bytes], places: bytes) -> bytes:
    return _full_box(b"meta", 0, 0, *boxes, places)


def _extent(width: int, height: int) -> bytes:
    return _full_box(b"ispe", 0, 0, struct.pack(">II", width, height))


def _box(kind: bytes, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">I", 8 + len(data)) + kind + data


def _full_box(kind: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(kind, struct.pack(">I", version << 24 | flags), *parts)
