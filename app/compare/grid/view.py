"""What the page shows of a grid: its progress in one line, and its clips."""

from __future__ import annotations

from html import escape
from typing import Any

from app.compare.grid.run import GridProgress, GridResult
from app.jobs import JobView
from app.parts.status import bar_and_line, not_kept, standing
from nbp_core.config.shapes import CLIP_FPS

_NAMED = 3
"""Captions that are named before the rest are counted."""


def status(view: JobView | None) -> str:
    """The bar and one line on where the grid stands, as HTML."""
    return bar_and_line("Progress of the grid", standing(view, _running, _done))


def _running(progress: GridProgress) -> tuple[float, str]:
    at_once = len(progress.captions)
    share = (progress.done + at_once * progress.step / progress.num_steps) / progress.total
    first, last = progress.done + 1, progress.done + at_once
    clips = f"Clip {first}" if first == last else f"Clips {first} to {last}"
    named = ", ".join(progress.captions[:_NAMED])
    rest = at_once - _NAMED
    text = f"{clips} of {progress.total}: {named}{f' and {rest} more' if rest > 0 else ''}."
    if progress.step == progress.num_steps:
        return share, f"{text} Writing the files..."
    return share, f"{text} Step {progress.step:,} of {progress.num_steps:,}."


def _done(result: GridResult) -> str:
    if result.not_kept:
        return not_kept("every clip", result.not_kept)
    if not result.is_complete:
        return "Stopped: the clips made so far are kept."
    return "Done. Choose a clip to open it on the Generate tab."


def measured(result: GridResult) -> str:
    """The line that says what was measured, as HTML."""
    return f"<p>{escape(result.measured)}</p>"


def shown(result: GridResult) -> dict[str, Any]:
    """The value of the grid's component."""
    cells = [
        {"id": c.clip_id, "caption": c.caption, "details": c.details, "frames": c.frames}
        for c in result.cells
    ]
    return {"cells": cells, "fps": CLIP_FPS}
