"""How the studio looks: a theme with readable contrast, fonts that are whole, and the styles."""

from __future__ import annotations

import gradio as gr

from app.attention.page import ATTENTION_CSS
from app.blocks.html import BLOCKS_CSS
from app.compare.script import COMPARE_CSS
from app.models.listing import MODELS_CSS
from app.parts.pictures import block_icon_css
from app.parts.thumbs import THUMBS_CSS
from app.results.tables import RESULTS_CSS
from app.tokenizer.view import TOKENIZER_CSS
from nbp_core.config.shapes import FIGURE6_SHAPES, TABLE3_SHAPES

_CSS = """
.gradio-container { overflow: clip !important; }
.prose :is(table, tr) { border: 0 !important; }
footer { margin-top: 1rem !important; }
footer img { display: none !important; } /* their names repeat the words beside them */
html:not(.dark) body:not(.dark) button[role="tab"][aria-selected="true"] {
  color: #1d4ed8 !important; }
#header { align-items: center; gap: .25rem 1.25rem; flex-wrap: wrap; }
#header > * { flex: none; width: auto; }
#title h1 { font-size: 1.5rem; margin: 0; white-space: nowrap; }
#header .form { background: none; border: 0; box-shadow: none; }
#model { border: 0; padding: 0; background: none; }
#model .container { display: flex; align-items: center; gap: .6rem; }
#model .container > span { margin: 0; }
#model .container .wrap { flex: 1; }
#about { margin-left: auto; }
#about:has(details[open]) { flex: 1 0 100%; }
#about summary { cursor: pointer; }
#about summary:focus-visible, #result :focus-visible { outline: 2px solid currentColor; }
#about p { max-width: 75ch; margin: .4rem 0; }
#model-facts, .quiet p { color: var(--body-text-color-subdued); font-size: .9rem; }
#run { flex-wrap: nowrap; position: sticky; top: 0; z-index: 5; padding: .5rem 0;
  background: var(--body-background-fill); }

#preview .panes { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
#preview figure { margin: 0; min-width: 0; }
#preview figcaption { font-size: .9rem; color: var(--body-text-color-subdued); margin-top: .35rem; }
#preview .pane { position: relative; aspect-ratio: 1; width: 100%; max-width: 512px;
  background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary); }
#preview img { image-rendering: pixelated; display: block; margin: 0; border: 0; border-radius: 0;
  max-width: none; }
#preview .pane img, #preview .pane svg { position: absolute; inset: 0; width: 100%; height: 100%; }
#preview img[src=""], #preview img:not([src]) { visibility: hidden; }
#preview .sheet { width: 100%; max-width: 512px; max-height: 110px; object-fit: contain;
  object-position: left top; margin-top: .35rem; }
#preview path { fill: none; vector-effect: non-scaling-stroke; }
#preview .walls { stroke: var(--body-text-color); stroke-width: 1px; opacity: .55; }
#preview .newest { stroke: #e69f00; stroke-width: 4px; }

#counters .bar { height: 6px; border-radius: 3px; overflow: hidden;
  background: var(--border-color-primary); }
#counters .bar > div { height: 100%; background: var(--color-accent); }
#counters dl { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; margin: .5rem 0 0; }
#counters dl > div { display: flex; flex-direction: column-reverse; min-width: 5.2rem; }
#counters dt { font-size: .8rem; color: var(--body-text-color-subdued); }
#counters dd { margin: 0; font-variant-numeric: tabular-nums; font-size: 1.1rem; font-weight: 700; }
#status { margin-top: -.75rem; }
#status p { margin: 0; font-weight: 700; }
#status p.failed { color: #b91c1c; }
.dark #status p.failed { color: #fca5a5; }

#block .wrap { flex-direction: column; align-items: stretch; gap: .3rem; }
#block label { padding: .2rem .6rem; }
#block label span { display: flex; align-items: center; gap: .7rem; margin-left: .35rem; }
#presets button { min-width: 0; }
#seed-row { align-items: end; flex-wrap: nowrap; }
#result video { image-rendering: pixelated; max-height: 512px; }
#frames-strip div[role=group] { overflow-x: auto; }
#frames-strip img { image-rendering: pixelated; height: 160px; width: auto; max-width: none; }
#manifest pre { overflow-x: auto; margin: 0; font-family: var(--font-mono); font-size: .85rem; }
#timing text { fill: var(--body-text-color) !important; font-family: var(--font) !important; }
#timing .hoverlayer text { fill: #ffffff !important; }
#stop { background: #b91c1c; color: #ffffff; }
#stop:disabled { background: var(--button-secondary-background-fill);
  color: var(--body-text-color-subdued); }

#run button { min-width: 0; }

@media (max-width: 640px) {
  #header { row-gap: .5rem; }
  #about { margin-left: 0; }
  #preview .panes { gap: .5rem; }
  #counters dl { gap: .2rem .9rem; }
  #counters dl > div { min-width: 4.2rem; }
}
@media (prefers-reduced-motion: no-preference) { #counters .bar > div { transition: width .2s; } }
"""


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
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_400",
    )


def css() -> str:
    """All styles, with an icon for every block shape of the paper."""
    shapes = dict.fromkeys(FIGURE6_SHAPES + TABLE3_SHAPES)
    icons = block_icon_css(shapes, (5, 16, 16), ":is(#block, #blocks-shape)")
    tabs = (COMPARE_CSS, ATTENTION_CSS, TOKENIZER_CSS, BLOCKS_CSS, RESULTS_CSS, MODELS_CSS)
    return "".join((_CSS, THUMBS_CSS, *tabs, icons))
