"""A model's card, Markdown that others wrote, as HTML that is safe to show.

HTML in it is shown as text, and its pictures are named, not loaded: the page asks for nothing that
a card says.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from html import escape
from typing import Any, Final

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token

CARD_LEVEL: Final = 2
"""Level of the heading above a card. Headings inside the card are smaller."""
MAX_LEVEL: Final = 6


def card_html(text: str) -> str:
    """A whole card."""
    parser = _parser()
    tokens = parser.parse(text)
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(MAX_LEVEL, int(token.tag[1:]) + CARD_LEVEL)}"
    html: str = parser.renderer.render(tokens, parser.options, {})
    return html


def line_html(text: str) -> str:
    """One paragraph, without a paragraph's tags."""
    html: str = _parser().renderInline(text)
    return html


@cache
def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("image", _named_picture)
    parser.add_render_rule("link_open", _link_apart)
    return parser


def _named_picture(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any
) -> str:
    token = tokens[index]
    return f"<em>{escape(token.content)} ({escape(str(token.attrs.get('src', '')))})</em>"


def _link_apart(
    renderer: RendererHTML, tokens: Sequence[Token], index: int, options: Any, env: Any
) -> str:
    """A link that leaves the studio open, and does not say where it was."""
    tokens[index].attrSet("target", "_blank")
    tokens[index].attrSet("rel", "noreferrer")
    html: str = renderer.renderToken(tokens, index, options, env)
    return html
