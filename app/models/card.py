"""A model's card, Markdown that others wrote, as HTML that is safe to show.

HTML in it is shown as text. Pictures that lie beside the card are shown as this module encodes them
anew; others are named, not loaded: the page asks for nothing that a card says.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache
from html import escape
from pathlib import Path
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

from app.parts.pictures import jpeg_uri
from nbp_core.media.files import MediaError
from nbp_core.media.pictures import read_image

CARD_LEVEL: Final = 2
"""Level of the heading above a card. Headings inside the card are smaller."""
MAX_LEVEL: Final = 6
MAX_PIXELS: Final = 640 * 720
"""A larger picture is shown at so many pixels: it is sent with the page."""
PREVIEW_RATIO: Final = 5
"""Width by height of the beginning of a picture that stands above the card."""


def card_html(text: str, folder: Path) -> str:
    """A whole card, with the pictures that lie in its folder."""
    parser = _parser()
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(MAX_LEVEL, int(token.tag[1:]) + CARD_LEVEL)}"
    html: str = parser.renderer.render(tokens, parser.options, {"folder": folder})
    return html


def preview_html(text: str, folder: Path) -> str:
    """The beginning of the first picture of a card that can be shown; empty without one."""
    for token in _parser().parse(text):
        for inner in token.children or ():
            if inner.type == "image":
                uri = _picture_uri(folder, inner, is_whole=False)
                if uri:
                    return f'<img class="preview" src="{uri}" alt="{escape(inner.content)}">'
    return ""


def line_html(text: str) -> str:
    """One paragraph, without a paragraph's tags."""
    html: str = _parser().renderInline(text)
    return html


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("image", _picture)
    parser.add_render_rule("link_open", _link_apart)
    return parser


def _picture(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any
) -> str:
    """A picture of the card's folder, or what another is called."""
    token = tokens[index]
    uri = _picture_uri(env["folder"], token, is_whole=True) if "folder" in env else ""
    if uri:
        return f'<img src="{uri}" alt="{escape(token.content)}">'
    return f"<em>{escape(token.content)} ({escape(str(token.attrs.get('src', '')))})</em>"


def _picture_uri(folder: Path, token: Token, *, is_whole: bool) -> str:
    """A picture that lies in the folder itself as a data address; empty for any other."""
    name = str(token.attrs.get("src", ""))
    if not name or Path(name).name != name:
        return ""
    path = folder / name
    try:
        if path.resolve().parent != folder.resolve():
            return ""
        return _encoded(path, path.stat().st_mtime_ns, is_whole)
    except (OSError, MediaError):
        return ""


@lru_cache(maxsize=32)
def _encoded(path: Path, changed_ns: int, is_whole: bool) -> str:
    picture_HWC = read_image(path, MAX_PIXELS)
    height = picture_HWC.shape[1] // PREVIEW_RATIO
    return jpeg_uri(picture_HWC if is_whole else picture_HWC[: max(1, height)])


def _link_apart(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any
) -> str:
    """A link that leaves the studio open, and does not say where it was."""
    tokens[index].attrSet("target", "_blank")
    tokens[index].attrSet("rel", "noreferrer")
    html: str = renderer.renderToken(tokens, index, options, env)
    return html
