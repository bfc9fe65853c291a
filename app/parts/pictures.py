"""Small pictures for the page: PNG addresses, token colours, Block outlines and icons."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Final
from urllib.parse import quote

import cv2
import numpy as np
import numpy.typing as npt

from app.clips.progress import NO_TOKEN
from nbp_core.config.shapes import Size3, format_block_shape

Picture = npt.NDArray[np.uint8]
SHEET_COLUMNS = 9

BLOCK_NAMES: Final[dict[Size3, str]] = {
    (1, 1, 1): "token",
    (1, 1, 8): "half row",
    (1, 1, 16): "row",
    (1, 2, 16): "2 rows",
    (1, 4, 16): "4 rows",
    (1, 16, 16): "frame",
    (1, 4, 4): "square",
    (2, 1, 8): "half row of 2 frames",
    (2, 2, 2): "cube",
}


def block_name(shape: Size3) -> str:
    """'row' for 1x1x16."""
    return BLOCK_NAMES.get(shape, "block")


def png_uri(picture: Picture) -> str:
    """An RGB or RGBA picture as a data address; nothing is written to disk."""
    return "data:image/png;base64," + base64.b64encode(png(picture)).decode()


def png(picture: Picture) -> bytes:
    """An RGB or RGBA picture as the bytes of a PNG file."""
    order = cv2.COLOR_RGBA2BGRA if picture.shape[2] == 4 else cv2.COLOR_RGB2BGR
    return cv2.imencode(".png", cv2.cvtColor(picture, order))[1].tobytes()


def jpeg_uri(picture: Picture) -> str:
    """A small RGB picture as a data address of few bytes."""
    return "data:image/jpeg;base64," + base64.b64encode(jpeg(picture)).decode()


def jpeg(picture: Picture) -> bytes:
    """A small RGB picture as the bytes of a JPEG file."""
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def jpeg_file_uri(path: Path) -> str:
    """A JPEG file as a data address; nothing where the file has gone."""
    with contextlib.suppress(OSError):
        return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()
    return ""


def file_uri(path: Path) -> str:
    """A PNG file as a data address."""
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def token_colours(tokens: npt.NDArray[np.int64]) -> Picture:
    """(..., 4) RGBA: equal tokens get equal colours, NO_TOKEN is transparent.

    A colour stands for nothing but the token's number; neighbours in the codebook look unlike.
    """
    mixed = (tokens.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)
    hue = (mixed % 180).astype(np.uint8)
    saturation = (90 + mixed // 180 % 100).astype(np.uint8)
    value = (120 + mixed // 18_000 % 120).astype(np.uint8)
    hsv = np.stack([hue, saturation, value], axis=-1).reshape(1, -1, 3)
    rgb = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).reshape(*tokens.shape, 3)
    alpha = np.where(tokens == NO_TOKEN, 0, 255).astype(np.uint8)
    return np.concatenate([rgb, alpha[..., None]], axis=-1).astype(np.uint8)


def sheet(colours_thwc: Picture) -> Picture:
    """All latent frames in rows, one empty cell between neighbours."""
    t, h, w, _ = colours_thwc.shape
    columns = min(t, SHEET_COLUMNS)
    rows = -(-t // columns)
    sheet = np.zeros((rows * (h + 1) - 1, columns * (w + 1) - 1, 4), dtype=np.uint8)
    for index, colours_hwc in enumerate(colours_thwc):
        top, left = index // columns * (h + 1), index % columns * (w + 1)
        sheet[top : top + h, left : left + w] = colours_hwc
    return sheet


def walls_path(shape: Size3, grid_hw: tuple[int, int], first: bool) -> str:
    """SVG path of the walls between blocks inside one latent frame, one unit a token."""
    height, width = grid_hw
    t, h, w = shape
    h = t * h if first else h
    lines = [f"M0 {y}H{width}" for y in range(h, height, h)]
    lines += [f"M{x} 0V{height}" for x in range(w, width, w)]
    return "".join(lines)


def block_icon(shape: Size3, grid: Size3) -> str:
    """A 16 x 16 grid cut by a block shape, its first block filled, as an SVG address for CSS."""
    h, w = grid[1:]
    t, block_h, block_w = shape
    walls = walls_path((1, block_h, block_w), (h, w), first=False)
    # A block that spans time casts a second one behind it.
    behind = "".join(
        f'<rect x="{k}" y="{k}" width="{block_w}" height="{block_h}" opacity=".5"/>'
        for k in range(1, t)
    )
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-0.5 -0.5 {w + 1} {h + 1}">'
        f'<path d="M0 0H{w}V{h}H0Z{walls}" opacity=".55" fill="none" stroke="#000"'
        f' stroke-width=".5"/>'
        f'{behind}<rect width="{block_w}" height="{block_h}"/></svg>'
    )
    return f"data:image/svg+xml,{quote(svg)}"


def block_icon_css(shapes: Iterable[Size3], grid: Size3, selector: str) -> str:
    """Rules that put each shape's icon before its choice, in the colour of the text."""
    rules = [
        f"{selector} input{{order:-1}}",
        f'{selector} input+span::before{{content:"";flex:none;width:32px;height:32px;'
        "background:currentColor;mask:var(--cut) center/contain no-repeat}",
    ]
    for shape in shapes:
        rules.append(
            f'{selector} input[value="{format_block_shape(shape)}"]+span'
            f'{{--cut:url("{block_icon(shape, grid)}")}}'
        )
    return "\n".join(rules)
