"""Layout of the Attention tab: choices left, maps and frames right. No behaviour."""

from __future__ import annotations

import gradio as gr

from app.attention.asked import Asked
from app.attention.clips import UPLOAD
from app.attention.study import NAMED
from app.parts import uploads
from app.parts.sources import component_script, template

OWN_CLIP = ("a clip of your own", UPLOAD)
_FIGURE14 = (
    "## Attention map, as in the paper's figure 14\n\n"
    "Each row is a position that predicts a token, each column one that it can see. **What to look"
    " for:** the staircase of blocks along the diagonal, lines parallel to it (the same place in"
    " earlier frames) and vertical stripes (tokens that many others look at). Press a row to follow"
    " its query below."
)
_FIGURE15 = (
    "## Attention over the frames, as in the paper's figure 15\n\n"
    "Where one query looks in every latent frame. Press a token to follow its query."
)
_HEADS = '<div class="heads" role="group" aria-label="Heads of every layer"></div>'


class AttentionPage:
    """Builds the choices on the left and the maps and frames on the right."""

    def __init__(self, model: gr.Dropdown, kept: gr.BrowserState, newest: gr.BrowserState) -> None:
        self.model = model
        self.kept = kept
        self.newest = newest
        """The clip that Generate showed when this tab was last opened."""
        self.shown = gr.State(("", ""))
        self.asked = gr.State(Asked())
        self.picked = gr.JSON(visible=False)
        """Stands for what was clicked, which the browser fills in when the event is sent."""
        self.place = gr.State(-1)
        self.accepted = gr.State((False, "", ""))
        """The last (beside, action, block) that could be shown."""
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=340):
                self._build_clip()
                self._build_head()
                self._build_files()
            with gr.Column(scale=4, min_width=340):
                gr.Markdown(_FIGURE14, elem_id="attention-figure14")
                with gr.Row():
                    self.finds = [
                        gr.Button(visible=False, size="sm", elem_id=f"attention-find{i}")
                        for i in range(len(NAMED))
                    ]
                self.map = gr.HTML(
                    None, html_template=template(__file__, "map.html"),
                    js_on_load=component_script(__file__, "map.js"),
                    elem_id="attention-map", label="Attention map",
                )  # fmt: skip
                gr.Markdown(_FIGURE15, elem_id="attention-figure15")
                self.look = gr.HTML(
                    None, html_template=template(__file__, "look.html"),
                    js_on_load=component_script(__file__, "look.js"),
                    elem_id="attention-look", label="Where the query looks",
                )  # fmt: skip
                self.measured = gr.HTML(elem_id="attention-measured", label="Measured here")
        with gr.Accordion("Over many clips", open=False, elem_id="attention-study"):
            self.study = gr.Plot(show_label=False, visible=False, elem_id="attention-study-plot")
            self.study_text = gr.HTML(label="Over many clips", elem_id="attention-study-text")

    def _build_clip(self) -> None:
        self.clip = gr.Dropdown(
            [OWN_CLIP], value=None, label="Clip", elem_id="attention-clip", filterable=False,
            info="The clip that Generate shows, your kept clips, and the bundled ones.",
        )  # fmt: skip
        self.upload = uploads.clip_upload(
            "Your clip", "attention-upload", height=200, visible=False
        )
        self.crop = uploads.crop_slider("attention-crop")
        self.action = gr.Dropdown(
            [("no action", "")], value="", label="Action", elem_id="attention-action",
            info="The action given to the model. Defaults to the clip's own action.",
        )  # fmt: skip
        self.block = gr.Dropdown(
            [], label="Block shape used for reading", elem_id="attention-block", filterable=False,
            info="A clip can be read in other block shapes than it was made in.",
        )  # fmt: skip
        self.beside = gr.Checkbox(
            False, label="Show next-token attention alongside", elem_id="attention-beside",
            info="Next-token gives a triangle, next-block a staircase.",
        )  # fmt: skip

    def _build_head(self) -> None:
        self.layer = gr.Dropdown(
            [], label="Layer", elem_id="attention-layer", filterable=False,
            info="Early layers often look nearby, later ones further away.",
        )  # fmt: skip
        self.head = gr.Dropdown(
            [("mean over all heads", "mean")], value="mean", label="Heads",
            elem_id="attention-head", filterable=False,
            info="One head, the mean of a layer's heads, or the largest weight of any head.",
        )  # fmt: skip
        gr.Markdown(
            "All heads: one row per layer. Click a head to see it large. (Peak weights, log"
            " scale.)",
            elem_classes="quiet",
        )
        self.heads = gr.HTML(
            None, html_template=_HEADS, js_on_load=component_script(__file__, "heads.js"),
            elem_id="attention-heads", label="Heads",
        )  # fmt: skip

    def _build_files(self) -> None:
        self.export = gr.Button(
            "Export this map (PNG, SVG, PDF and NPZ)", elem_id="attention-export"
        )
        with gr.Row(visible=False) as self.files:
            self.downloads = {
                f".{name}": gr.DownloadButton(
                    name.upper(), size="sm", min_width=70, elem_id=f"attention-{name}"
                )
                for name in ("png", "svg", "pdf", "npz")
            }
