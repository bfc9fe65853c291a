"""What lies on the Attention tab: choices left, maps and frames right. No behaviour."""

from __future__ import annotations

from typing import Final

import gradio as gr

from app.attention.clips import UPLOAD
from app.attention.heads import HEADS_JS, HEADS_TEMPLATE
from app.attention.look import LOOK_JS, LOOK_TEMPLATE
from app.attention.script import MAP_JS, MAP_TEMPLATE
from app.parts import uploads

OWN_CLIP = ("a clip of your own", UPLOAD)
ATTENTION_CSS: Final = """
#attention-map .switches { display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; align-items: center; }
#attention-map .scale { display: flex; gap: .4rem; align-items: center; font-size: .85rem; }
#attention-map .ramp { width: 128px; height: 12px; }
#attention-map .panes { display: flex; flex-wrap: wrap; gap: 1rem; margin-top: .5rem; }
#attention-map figure { margin: 0; flex: 1 1 300px; min-width: 0; }
#attention-map figcaption { font-size: .9rem; font-weight: 700; margin-bottom: .25rem; }
#attention-map .scroll { overflow: auto; max-height: 640px;
  border: 1px solid var(--border-color-primary); }
#attention-map .grid { display: grid; }
#attention-map .corner, #attention-map .top, #attention-map .left { position: sticky; z-index: 2;
  background: var(--background-fill-primary); }
#attention-map .corner { top: 0; left: 0; z-index: 3; }
#attention-map .top { top: 0; }
#attention-map .left { left: 0; }
#attention-map .sheet { position: relative; line-height: 0; }
#attention-map .map { image-rendering: pixelated; cursor: crosshair; }
#attention-map .mark { position: absolute; left: 0; width: 100%; pointer-events: none;
  min-height: 1px; background: #22d3ee; opacity: .8; }
#attention-map .cross { position: absolute; top: 0; height: 100%; width: 1px; pointer-events: none;
  background: #22d3ee; opacity: .5; }
#attention-map .readout, #attention-look .readout { min-height: 2.8em; margin: .4rem 0 0;
  font-variant-numeric: tabular-nums; }
#attention-look .title { font-weight: 700; margin: 0 0 .35rem; }
#attention-look .legend { font-size: .85rem; margin: 0; color: var(--body-text-color-subdued); }
#attention-look .strip { display: grid; gap: .6rem;
  grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); }
#attention-look figure { margin: 0; max-width: 260px; }
#attention-look canvas { width: 100%; display: block; cursor: crosshair; }
#attention-look figcaption { font-size: .8rem; font-variant-numeric: tabular-nums; }
#attention-look .text { margin: .3rem 0 1rem; font-size: .9rem; }
#attention-heads .html-container { max-height: 420px; overflow: auto; }
#attention-heads .heads { display: grid; gap: 4px; align-items: center; }
#attention-heads .layer { font-size: .85rem; padding-right: .3rem; }
#attention-heads .head { padding: 0; border: 2px solid transparent; line-height: 0;
  background: none; cursor: pointer; }
#attention-heads .head canvas { width: 100%; }
#attention-heads .head[aria-pressed=true] { border-color: #0891b2; }
#attention-map :focus-visible, #attention-look :focus-visible, #attention-heads :focus-visible {
  outline: 2px solid currentColor; outline-offset: 1px; }
"""


class AttentionPage:
    """Builds the choices on the left and the maps and frames on the right."""

    def __init__(self, model: gr.Dropdown) -> None:
        self.model = model
        self.newest = gr.State("")
        self.shown = gr.State(("", ""))
        self.place = gr.State(-1)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=340):
                self._build_clip()
                self._build_head()
                self._build_files()
            with gr.Column(scale=4, min_width=340):
                self.map = gr.HTML(
                    None, html_template=MAP_TEMPLATE, js_on_load=MAP_JS,
                    elem_id="attention-map", label="Attention map",
                )  # fmt: skip
                self.look = gr.HTML(
                    None, html_template=LOOK_TEMPLATE, js_on_load=LOOK_JS,
                    elem_id="attention-look", label="Where the query looks",
                )  # fmt: skip
                self.measured = gr.Markdown(elem_id="attention-measured")
        with gr.Accordion("Over many clips", open=False, elem_id="attention-study"):
            self.study = gr.Plot(show_label=False, visible=False, elem_id="attention-study-plot")
            self.study_text = gr.HTML(label="Over many clips", elem_id="attention-study-text")

    def _build_clip(self) -> None:
        self.clip = gr.Dropdown(
            [OWN_CLIP], value=None, label="Clip", elem_id="attention-clip", filterable=False,
            info="Clips made since the studio was opened, newest first, then bundled ones.",
        )  # fmt: skip
        self.upload = uploads.clip_upload(
            "Your clip", "attention-upload", height=200, visible=False
        )
        self.action = gr.Dropdown(
            [("no action", "")], value="", label="Action", elem_id="attention-action",
            info="What the model is told while it reads the clip; at first, the clip's own.",
        )  # fmt: skip
        self.block = gr.Dropdown(
            [], label="Read in blocks of", elem_id="attention-block", filterable=False,
            info="The same clip can be read in other blocks than it was made in.",
        )  # fmt: skip
        self.beside = gr.Checkbox(
            False, label="Next-token beside next-block", elem_id="attention-beside",
            info="Adds the same clip read token by token: a triangle beside a staircase.",
        )  # fmt: skip

    def _build_head(self) -> None:
        self.layer = gr.Dropdown(
            [], label="Layer", elem_id="attention-layer", filterable=False,
            info="The first layers often look nearby, later ones further.",
        )  # fmt: skip
        self.head = gr.Dropdown(
            [("mean of all heads", "mean")], value="mean", label="Heads", elem_id="attention-head",
            filterable=False,
            info="One head, the mean of a layer's heads, or the greatest weight of any of them.",
        )  # fmt: skip
        gr.Markdown(
            "Every head, a layer a line, greatest weights on a log scale; click one to see it.",
            elem_classes="quiet",
        )
        self.heads = gr.HTML(
            None, html_template=HEADS_TEMPLATE, js_on_load=HEADS_JS,
            elem_id="attention-heads", label="Heads",
        )  # fmt: skip

    def _build_files(self) -> None:
        self.export = gr.Button("Make PNG and NPZ of this map", elem_id="attention-export")
        with gr.Row(visible=False) as self.files:
            self.png = gr.DownloadButton("PNG", size="sm", elem_id="attention-png")
            self.npz = gr.DownloadButton("NPZ", size="sm", elem_id="attention-npz")
