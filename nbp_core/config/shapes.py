"""Shapes that everything shares: grids, block shapes, the size and rate of a clip."""

from __future__ import annotations

import re
from numbers import Integral
from typing import Literal

Size3 = tuple[int, int, int]


LayoutKind = Literal["plain", "hybrid", "elastic"]
"""How blocks become a sequence: see SequencePlan in blocks/steps.py."""


FORMAT_VERSION = 1
"""Format of a model folder's config.json."""


CLIP_FRAMES = 17
"""Frames of a clip."""


CLIP_SIDE = 128
"""Height and width of a clip, in pixels."""


CLIP_FPS = 8
"""Frames per second of a clip."""


PLAY_FPS = 16
"""Frames of a play that are shown per second."""


# The six block shapes of the paper's figures 6 and 7, and the five of its table 3.
FIGURE6_SHAPES: tuple[Size3, ...] = (
    (1, 1, 1),
    (1, 1, 8),
    (1, 1, 16),
    (1, 2, 16),
    (1, 4, 16),
    (1, 16, 16),
)


TABLE3_SHAPES: tuple[Size3, ...] = ((1, 4, 4), (2, 1, 8), (1, 1, 16), (2, 2, 2), (1, 1, 8))


def parse_block_shape(text: str) -> Size3:
    """'1x1x16' -> (1, 1, 16). Raises ValueError on anything that is not three whole numbers."""
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(re.fullmatch("0*[1-9][0-9]{0,99}", part) for part in parts):
        raise ValueError(
            f"block shape {text!r} is not three numbers (time x height x width) such as 1x1x16"
        )
    t, h, w = map(int, parts)
    return t, h, w


def check_sides(what: str, sides: object) -> None:
    """Raises ValueError unless `sides` is a tuple of three whole numbers of at least 1."""
    is_three = isinstance(sides, tuple) and len(sides) == 3 and all(map(_is_side, sides))
    if not is_three:
        raise ValueError(
            f"{what} must be three whole numbers of at least 1 (time, height, width) such as "
            f"(1, 1, 16), not {sides!r:.60}"
        )


def _is_side(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1


def format_block_shape(shape: Size3) -> str:
    """(1, 1, 16) -> '1x1x16'."""
    return "x".join(map(str, shape))


NO_TOKEN = -1
"""Marks positions without a video token, and missing places."""
