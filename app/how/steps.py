"""What the six steps show: a clip, and how three cuts of its grid would make it.

Input: a clip that was made here, or the bundled one. Output: plain numbers for steps.js. The cuts
are the engine's own (its SequenceLayout), so that what is drawn is what a model does.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import numpy as np

from app.clips.kept import find_clip
from app.clips.progress import Making
from app.clips.request import Request
from app.clips.run import Outcome
from app.clips.sample import SAMPLE_ID, sample
from app.parts.clip_view import making_view
from app.parts.made import clip_line, made_clips
from app.parts.pictures import block_name, walls_path
from app.session import Session
from nbp_core.blocks.grid import BlockLayout
from nbp_core.config.shapes import Size3, format_block_shape

MAX_LATENTS: Final = 5
"""Latent frames of the grid that is cut: longer clips are made in pieces of this length."""
NO_CLIP: Final = "There is no clip yet. Make one on the Generate tab."


def choices(session: Session, opened: str | None) -> list[tuple[str, str]]:
    """(title, id): the clip that Generate shows, the kept ones, and the bundled one."""
    found = [(clip.title, clip.id) for clip in made_clips(session, opened)]
    bundled = sample(session)
    if bundled is not None:
        found.append((f"{clip_line(bundled.manifest, True)}, bundled clip", SAMPLE_ID))
    return found


def steps_view(session: Session, clip_id: str | None) -> dict[str, Any]:
    """A clip and three cuts of its grid, for the page's script.

    Raises ValueError, one sentence, where there is no such clip or it is damaged.
    """
    strip, making, shape, model = _found(session, clip_id)
    pipeline = session.loaded(model)
    t, h, w = making.tokens_thw.shape
    grid = (min(t, MAX_LATENTS), h, w)
    known = int((making.step_thw[: grid[0]] < 0).sum())
    shapes = dict.fromkeys([(1, 1, 1), shape, (1, 1, w), (1, h, w)])
    cuts = [cut for one in sorted(shapes, key=math.prod) if (cut := _cut(one, grid, known))]
    return {
        **making_view(clip_id or "", strip, making, shape),
        "levels": [] if pipeline is None else list(pipeline.levels),
        "own": format_block_shape(shape),
        "cuts": cuts,
    }


def _found(session: Session, clip_id: str | None) -> tuple[Path, Making, Size3, str | None]:
    if clip_id == SAMPLE_ID:
        bundled = sample(session)
        if bundled is not None:
            model = str(bundled.manifest["model"])
            return bundled.strip, bundled.making, bundled.block_shape, model
    view = find_clip(session, clip_id)
    outcome = view.result if view is not None else None
    if not isinstance(outcome, Outcome) or not outcome.strip.is_file():
        raise ValueError(NO_CLIP)
    request = view.request if view is not None else None
    maker = request.model if isinstance(request, Request) else None
    return outcome.strip, outcome.making, outcome.last.block_shape, maker


def _cut(shape: Size3, grid: Size3, known: int) -> dict[str, Any] | None:
    """How a model with blocks of a shape fills a grid; None where the shape does not tile it.

    L positions. place: grid place of each position, -1 for condition, BOV and placeholders. query:
    by grid place, the position that predicts it. ends: how many positions each position sees.
    frames: first position of each latent frame.
    """
    from nbp_core.blocks.sequences import SequenceLayout  # brings torch, which takes a second

    try:
        blocks = BlockLayout(grid, shape)
        layout = SequenceLayout("hybrid", blocks, prefix_len=1, first_video_id=0)
        steps = len(layout.decode_steps(known))
    except ValueError:
        return None
    segment_L = layout.segment_L.numpy()
    ends_L = np.searchsorted(segment_L, segment_L, side="right")
    place_L = np.where(layout.source_L.numpy() < 0, -1, layout.place_L.numpy())
    query = np.full(math.prod(grid), -1)
    target_L = layout.target_place_L.numpy()
    query[target_L[target_L >= 0]] = np.flatnonzero(target_L >= 0)
    latent_L = np.where(place_L < 0, -1, place_L // (grid[1] * grid[2]))
    frames = [int(np.argmax(latent_L == t)) for t in range(grid[0]) if (latent_L == t).any()]
    return {
        "shape": format_block_shape(shape),
        "name": block_name(shape),
        "block_len": blocks.block_len,
        "steps": steps,
        "walls": [walls_path(shape, grid[1:], first=is_first) for is_first in (True, False)],
        "place": place_L.tolist(),
        "query": query.tolist(),
        "ends": ends_L.tolist(),
        "frames": frames,
    }
