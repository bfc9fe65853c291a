"""How a block shape makes a clip: every step, who predicts whom, who may attend to whom.

Input: a block shape. Output: plain numbers for the page, all of them the engine's own (its
SequenceLayout), so that what is drawn is what a model does. The clip starts from a named action:
one condition token, the begin-of-video token (BOV), then tokens.
"""

from __future__ import annotations

import math
from html import escape
from typing import Any, Final

from app.clips.words import plural
from app.parts.controls import DEFAULT_GRID
from app.parts.pictures import block_name
from nbp_core.blocks.grid import BlockLayout
from nbp_core.blocks.steps import SequencePlan
from nbp_core.config.shapes import (
    CLIP_FRAMES,
    FIGURE6_SHAPES,
    TABLE3_SHAPES,
    Size3,
    format_block_shape,
    parse_block_shape,
)

SHAPES: Final = tuple(sorted(dict.fromkeys(FIGURE6_SHAPES + TABLE3_SHAPES), key=math.prod))
"""The paper's six of figure 6 and five of table 3, two of them the same, by length."""
_NO_PLACE = -1
_STAND_IN = 1
_PREFIX = 2


def parse(t: float | None, h: float | None, w: float | None) -> Size3:
    """Three numbers of the page as a block shape that tiles the grid.

    Raises ValueError, one sentence, naming shapes that do.
    """
    if t is None or h is None or w is None:
        raise ValueError("Enter three whole numbers: latent frames, rows and columns of a block.")
    if not all(float(side).is_integer() and 1 <= side <= 64 for side in (t, h, w)):
        raise ValueError("A block has whole numbers of latent frames, rows and columns, from 1 up.")
    shape = parse_block_shape(f"{t:g}x{h:g}x{w:g}")
    _plan(shape)
    return shape


def plan(shape: Size3, is_given: bool) -> dict[str, Any]:
    """Everything the picture needs, as JSON; L positions of the sequence, in its order.

    place: grid place of each position, -1 in the prefix. kind: 1 for a placeholder that stands in
    for a token of the first block, 2 for condition and BOV. target: place of the token that each
    position predicts. segment: a position may attend to all of no later segment. steps: [phase,
    first position fed, end, tokens made].
    """
    from nbp_core.blocks.sequences import SequenceLayout  # brings torch, which takes a second

    counted = _plan(shape)
    layout = SequenceLayout("hybrid", counted.blocks, prefix_len=1, first_video_id=0)
    places = layout.place_L.tolist()
    kinds = [
        _STAND_IN if special > 0 else _PREFIX if place == _NO_PLACE else 0
        for special, place in zip(layout.special_L.tolist(), places, strict=True)
    ]
    num_known = _num_known(is_given)
    return {
        "shape": list(shape),
        "name": f"{block_name(shape)} {format_block_shape(shape)}",
        "grid": list(DEFAULT_GRID),
        "blocks": layout.blocks.places_NS.tolist(),
        "place": places,
        "kind": kinds,
        "target": layout.target_place_L.tolist(),
        "segment": layout.segment_L.tolist(),
        "head": layout.head_len,
        "known": num_known // layout.blocks.block_len,
        "steps": [
            [step.phase, step.start, step.stop, step.last - step.first]
            for step in layout.decode_steps(num_known)
        ],
    }


def choices(is_given: bool) -> list[tuple[str, str]]:
    """'row 1x1x16: 95 steps' for every shape of the paper."""
    return [
        (f"{block_name(shape)} {text}: {plural(_num_steps(_plan(shape), is_given), 'step')}", text)
        for shape in SHAPES
        for text in [format_block_shape(shape)]
    ]


def numbers(shape: Size3) -> str:
    """The numbers of a block shape that tiles the grid, as HTML."""
    counted = _plan(shape)
    items = {
        "tokens in a block": f"{counted.blocks.block_len:,}",
        f"blocks in a clip of {CLIP_FRAMES} frames": f"{counted.blocks.num_blocks:,}",
        "steps from an action": _steps(counted, is_given=False),
        "steps with the first frame given": _steps(counted, is_given=True),
    }
    shown = "".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in items.items())
    return f"<dl>{shown}</dl>"


def _num_known(is_given: bool) -> int:
    return math.prod(DEFAULT_GRID[1:]) if is_given else 0


def _num_steps(counted: SequencePlan, is_given: bool) -> int:
    return len(counted.decode_steps(_num_known(is_given)))


def _steps(counted: SequencePlan, is_given: bool) -> str:
    steps, by_token = _num_steps(counted, is_given), math.prod(DEFAULT_GRID) - _num_known(is_given)
    if steps == by_token:
        return f"{steps:,}, next-token prediction itself"
    return f"{steps:,}, {by_token / steps:.1f}x fewer than {by_token:,}"


def _plan(shape: Size3) -> SequencePlan:
    return SequencePlan("hybrid", BlockLayout(DEFAULT_GRID, shape), prefix_len=1, first_video_id=0)
