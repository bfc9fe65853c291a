"""Rows of small pictures to choose from, as buttons with a name that everybody can read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path

import gradio as gr

from app.parts.pictures import jpeg_uri
from app.parts.sources import component_script
from nbp_core.media.video import crop_resize, read_context

THUMB_SIDE = 96


def thumbs(
    title: str, items: Sequence[dict[str, str]], elem_id: str, visible: bool = True
) -> gr.HTML:
    """The row; its select event brings {'index': which}."""
    name = escape(title)
    return gr.HTML(
        list(items),
        html_template=f'<p class="thumbs-title">{name}</p>'
        f'<div class="thumbs" role="group" aria-label="{name}"></div>',
        js_on_load=component_script(__file__, "thumbs.js"),
        elem_id=elem_id,
        visible=visible,
        label=title,
    )


def chosen_index(event: gr.EventData, count: int) -> int | None:
    """Which of `count` pictures was chosen; None for an answer that makes no sense."""
    index = event._data.get("index") if isinstance(event._data, dict) else None
    return index if isinstance(index, int) and 0 <= index < count else None


def thumb(path: Path, caption: str) -> dict[str, str]:
    """A picture, or the first frame of a clip, with what is written under it."""
    return {"picture": _small(path, path.stat().st_mtime_ns), "caption": caption}


@lru_cache(maxsize=256)
def _small(path: Path, changed: int) -> str:
    frame_HWC = crop_resize(read_context(path, 1), THUMB_SIDE)[0]
    return jpeg_uri(frame_HWC)
