"""Rows of small pictures to choose from, as buttons with a name that everybody can read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import Final

import gradio as gr

from app.parts.pictures import jpeg_uri
from nbp_core.media.video import crop_resize, read_context

THUMB_SIDE = 96

# Captions go in as text, never as HTML: they may hold names that came with a file.
_SCRIPT: Final = """
const draw = () => {
  const buttons = (props.value || []).map((item, index) => {
    const button = document.createElement('button');
    const picture = new Image();
    const caption = document.createElement('span');
    button.type = 'button';
    picture.src = item.picture;
    picture.alt = '';
    caption.textContent = item.caption;
    button.append(picture, caption);
    button.addEventListener('click', () => trigger('select', {index}));
    return button;
  });
  element.querySelector('.thumbs').replaceChildren(...buttons);
};
draw();
watch('value', draw);
"""

THUMBS_CSS: Final = """
.thumbs { display: grid; grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); gap: .5rem; }
.thumbs button { display: flex; flex-direction: column; gap: .25rem; padding: .35rem;
  text-align: left; border: 1px solid var(--border-color-primary); border-radius: 6px;
  font-size: .8rem; font-weight: 400;
  line-height: 1.2; color: var(--body-text-color); background: var(--background-fill-primary); }
.thumbs button:hover { border-color: var(--color-accent); }
.thumbs button:focus-visible { outline: 2px solid currentColor; }
.thumbs img { width: 100%; aspect-ratio: 1; margin: 0; image-rendering: pixelated; }
.thumbs-title { margin: 0 0 .35rem; font-size: .9rem; color: var(--body-text-color-subdued); }
"""


def thumbs(
    title: str, items: Sequence[dict[str, str]], elem_id: str, visible: bool = True
) -> gr.HTML:
    """The row; its select event brings {'index': which}."""
    name = escape(title)
    return gr.HTML(
        list(items),
        html_template=f'<p class="thumbs-title">{name}</p>'
        f'<div class="thumbs" role="group" aria-label="{name}"></div>',
        js_on_load=_SCRIPT,
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
