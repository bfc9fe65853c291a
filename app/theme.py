"""How the studio looks: a theme with readable contrast, fonts that are whole, and the styles."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from app.parts.pictures import block_icon_css
from nbp_core.config.shapes import FIGURE6_SHAPES, TABLE3_SHAPES

SHAPES = tuple(dict.fromkeys(FIGURE6_SHAPES + TABLE3_SHAPES))


def theme() -> gr.themes.Base:
    """Gradio's bundled semibold fonts lack most letters; regular and bold are whole."""
    font = gr.themes.LocalFont
    return gr.themes.Default(
        primary_hue="blue",
        neutral_hue="slate",
        font=[font("Source Sans Pro", weights=(400, 700)), "system-ui", "sans-serif"],
        font_mono=[font("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace"],
    ).set(
        body_text_color_subdued="#52525b",
        block_info_text_color="#52525b",
        block_label_text_color="#3f3f46",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_text_color="white",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_dark="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        button_cancel_background_fill_hover_dark="#991b1b",
        button_cancel_text_color="white",
        button_cancel_text_color_dark="white",
        button_cancel_text_color_hover="white",
        button_cancel_text_color_hover_dark="white",
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_400",
    )


def css() -> str:
    """studio.css and the styles beside each tab, with an icon for every block shape."""
    folder = Path(__file__).parent
    styles = [folder / "studio.css", *sorted(folder.glob("*/**/*.css"))]
    icons = block_icon_css(SHAPES, (5, 16, 16), ":is(#block, #blocks-shape)")
    return "".join((*(style.read_text() for style in styles), icons))
