"""Layout of the Tokenizer tab: the input left, its reconstruction right. No behaviour."""

from __future__ import annotations

import gradio as gr

from app.parts import controls, uploads
from app.parts.follow import Follower
from app.parts.sources import component_script, template
from app.session import Session
from app.tokenizer import view

_SOURCES = [("a picture", "picture"), ("a clip", "clip"), ("a clip made here", "made")]


class TokenizerPage:
    """Builds the choices on the left and the comparison on the right."""

    def __init__(
        self, session: Session, blocks: gr.Blocks, model: gr.Dropdown, follower: Follower
    ) -> None:
        self.session = session
        self.blocks = blocks
        self.model = model
        self.follower = follower
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=340):
                with gr.Row(elem_classes="run"):
                    self.go = gr.Button("Tokenize", variant="primary", elem_id="tokenize")
                    self.halt = gr.Button(
                        "Stop", variant="stop", elem_id="tokenize-stop", interactive=False
                    )
                self._build_source()
            with gr.Column(scale=4, min_width=340):
                self.status = gr.HTML(
                    view.status(None), elem_id="tokenizer-status", label="Status",
                    elem_classes="status-line",
                )  # fmt: skip
                self._build_result()

    def _build_source(self) -> None:
        gr.Markdown(
            "The tokenizer turns pixels into whole numbers and back. Detail lost here cannot be"
            " recovered later. The model chosen above decides which tokenizer is used.",
            elem_classes="quiet",
        )
        self.source = gr.Radio(
            _SOURCES, value="clip", label="Input", elem_id="take",
        )  # fmt: skip
        with gr.Column(visible=False) as self.picture_box:
            self.picture = uploads.picture_upload(
                self.session, "Picture", "tokenizer-picture", "The picture you chose"
            )
            uploads.offer_examples(self.session, "frame", self.picture, "Pictures to try")
        with gr.Column() as self.clip_box:
            self.clip = uploads.clip_upload("Clip", "tokenizer-clip")
            uploads.offer_examples(self.session, "clip", self.clip, "Clips to try")
        self.crop = uploads.crop_slider("tokenizer-crop", visible=True)
        with gr.Column(visible=False) as self.made_box:
            self.made = gr.Dropdown(
                [], label="Clip made here", elem_id="tokenizer-made", filterable=False,
                info="The clip that Generate shows and your kept clips.",
            )  # fmt: skip
        gr.Markdown(
            "Only the marked square is used. Clips are read at 8 frames per second, and only their"
            " first 17 frames are used (shorter clips are trimmed to 5, 9 or 13 frames).",
            elem_classes="quiet",
        )

    def _build_result(self) -> None:
        with gr.Column(visible=False, elem_id="round-trip") as self.result:
            self.figures = gr.HTML(label="Figures", elem_id="trip-figures")
            with gr.Tabs():
                with gr.Tab("Compare a frame"):
                    self.frame = gr.Slider(
                        1, 17, 1, step=1, label="Frame", elem_id="tokenizer-frame", buttons=[],
                        info="The frame that both pictures show.",
                    )  # fmt: skip
                    controls.while_empty(self.frame, 1)
                    self.pair = gr.HTML(
                        {}, html_template=template(__file__, "pair.html"),
                        js_on_load=component_script(__file__, "pair.js"),
                        elem_id="trip-pair", label="Before and after",
                    )  # fmt: skip
                with gr.Tab("Clips"):
                    self.no_clips = gr.Markdown(
                        "Choose a clip as input to see it here.", visible=False
                    )
                    with gr.Row():
                        self.videos = [
                            gr.Video(
                                label=label, autoplay=True, loop=True, interactive=False,
                                buttons=[], elem_id=name, min_width=160,
                            )
                            for label, name in (
                                ("Original", "original-clip"), ("Reconstruction", "back-clip"),
                            )
                        ]  # fmt: skip
                with gr.Tab("Tokens"):
                    self.maps = gr.HTML(elem_id="token-maps", label="Token maps")
                with gr.Tab("By frame"):
                    self.curve = gr.Plot(show_label=False, elem_id="quality-curve")
            with gr.Row():
                self.downloads = {
                    name: gr.DownloadButton(
                        label, size="sm", min_width=90, elem_id=f"trip-get-{name}"
                    )
                    for name, label in (
                        ("reconstruction", "Reconstruction"), ("tokens", "Tokens (NPY)"),
                        ("figures", "Figures (JSON)"),
                    )
                }  # fmt: skip
