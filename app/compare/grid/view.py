"""What the page shows of a grid: its progress in one line, and its clips."""

from __future__ import annotations

from html import escape
from typing import Any

from app.compare.grid.run import GridResult
from app.jobs import JobView
from app.parts.status import bar_and_line, not_kept, standing
from nbp_core.config.shapes import CLIP_FPS


def status(view: JobView | None) -> str:
    """The bar and one line on where the grid stands, as HTML."""
    return bar_and_line("Progress of the grid", standing(view, _done))


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
