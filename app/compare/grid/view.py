"""What the page shows of a grid: its progress in one line, and its clips."""

from __future__ import annotations

from html import escape
from typing import Any

from app.compare.grid.run import GridProgress, GridResult
from app.jobs import JobState, JobView
from app.parts.status import bar, line, waiting
from nbp_core.config.shapes import CLIP_FPS

_NAMED = 3
"""Captions that are named before the rest are counted."""


def status(view: JobView | None) -> str:
    """The bar and one line on where the grid stands, as HTML."""
    share, text, kind = _state(view)
    return bar("Progress of the grid", share) + line(text, kind)


def _state(view: JobView | None) -> tuple[float, str, str]:
    """The finished share, what is said about it, and whether that is a failure."""
    if view is None:
        return 0.0, "Ready.", ""
    if view.state is JobState.WAITING:
        return 0.0, waiting(view), ""
    if view.state is JobState.RUNNING:
        if view.progress is None:
            return 0.0, view.note or "Loading the model...", ""
        return _share(view.progress), _running(view.progress), ""
    if view.state is JobState.FAILED:
        return 0.0, view.error, "failed"
    if view.result is None:
        return 0.0, view.error or "Stopped before it started.", ""
    if not view.result.is_complete:
        return 1.0, "Stopped: the clips made so far are kept.", ""
    return 1.0, "Done. Choose a clip to open it on the Generate tab.", ""


def _share(progress: GridProgress) -> float:
    at_once = len(progress.captions) * progress.step / progress.num_steps
    return (progress.done + at_once) / progress.total


def _running(progress: GridProgress) -> str:
    first, last = progress.done + 1, progress.done + len(progress.captions)
    clips = f"Clip {first}" if first == last else f"Clips {first} to {last}"
    named = ", ".join(progress.captions[:_NAMED])
    rest = len(progress.captions) - _NAMED
    text = f"{clips} of {progress.total}: {named}{f' and {rest} more' if rest > 0 else ''}."
    if progress.step == progress.num_steps:
        return f"{text} Writing the files..."
    return f"{text} Step {progress.step:,} of {progress.num_steps:,}."


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
