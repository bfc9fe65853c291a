"""Rows of small pictures to choose from, as buttons with a name that everybody can read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from html import escape
from pathlib import Path
from urllib.parse import quote

import gradio as gr
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.parts.pictures import jpeg
from app.parts.sources import component_script
from nbp_core.media.files import MediaError
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


def thumb(assets: Path, path: Path, caption: str) -> dict[str, str]:
    """A picture among the assets, or the first frame of a clip, with what is written under it.

    The page fetches it when it is first shown: reading them all would keep the page waiting.
    """
    return {"picture": quote(path.relative_to(assets).as_posix()), "caption": caption}


def route(assets: Path | None) -> Route:
    """Where pages fetch the small pictures. Only what lies in the folder of assets is served."""

    def serve(request: Request) -> Response:
        path = _bundled(assets, str(request.path_params["name"]))
        if path is None:
            return Response(status_code=404)
        try:
            data = _small(path, path.stat().st_mtime_ns)
        except (MediaError, OSError):
            return Response(status_code=404)
        return Response(data, media_type="image/jpeg", headers={"cache-control": "no-cache"})

    return Route("/thumbs/{name:path}", serve)


def _bundled(assets: Path | None, name: str) -> Path | None:
    if assets is None:
        return None
    try:
        path = (assets / name).resolve()
        return path if path.is_relative_to(assets.resolve()) and path.is_file() else None
    except (OSError, ValueError):  # a name that no system takes
        return None


@lru_cache(maxsize=256)
def _small(path: Path, changed: int) -> bytes:
    return jpeg(crop_resize(read_context(path, 1), THUMB_SIDE)[0])
