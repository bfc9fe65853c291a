"""What lies on the Compare tab: the start and the two runners left, the race right."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from app import compare_view, controls
from app.compare import paper_words
from app.compare_script import REPLAY_JS, REPLAY_TEMPLATE
from app.request import Start
from app.session import Session
from nbp_core.config import CLIP_FRAMES

_STARTS = [("an action", "action"), ("a first frame", "frame"), ("five frames", "clip")]
FIRST, SECOND = "1x1x1", "1x1x16"
"""The blocks that race unless others are chosen: the paper's baseline and its method."""


def usual_pair(offered: Sequence[str], first: str = FIRST, second: str = SECOND) -> tuple[str, str]:
    """The wanted blocks where they are offered, else the smallest and the largest."""
    return (
        first if first in offered else offered[0],
        second if second in offered else offered[-1],
    )


class ComparePage:
    """Builds the controls on the left and the race on the right."""

    def __init__(self, session: Session, blocks: gr.Blocks, model: gr.Dropdown) -> None:
        self.session = session
        self.blocks = blocks
        self.model = model
        self.job_id = gr.BrowserState("", storage_key="nbp-studio-race", secret="nbp-studio")
        self.seen = gr.State(("", 0))
        self.timer = gr.Timer(0.5, active=False)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=340):
                self._build_runners()
                self._build_start()
                self._build_settings()
                with gr.Row(elem_id="race-run"):
                    self.go = gr.Button("Start the race", variant="primary", elem_id="race-go")
                    self.halt = gr.Button("Stop", elem_id="race-stop", interactive=False)
            with gr.Column(scale=4, min_width=340):
                self.status = gr.HTML(
                    compare_view.status(None), elem_id="race-status", label="Status"
                )
                self._build_result()
                gr.Markdown(compare_view.FAIR, elem_id="race-fair", elem_classes="quiet")
                gr.Markdown(paper_words(), elem_id="race-paper", elem_classes="quiet")

    def _build_runners(self) -> None:
        steps = controls.count_steps(self.session, self.model.value, "action", CLIP_FRAMES)
        choices = controls.block_choices(steps)
        first, second = usual_pair([value for _, value in choices])
        self.first = gr.Dropdown(
            choices, value=first, label="First runner", elem_id="race-first", filterable=False,
            info="The slower one; one token a step is next-token prediction.",
        )  # fmt: skip
        self.second = gr.Dropdown(
            choices, value=second, label="Second runner", elem_id="race-second", filterable=False,
            info="The faster one; speed-ups are those of the second over the first.",
        )  # fmt: skip

    def _build_start(self) -> None:
        names = controls.action_names(self.session, self.model.value)
        self.start = gr.Radio(
            _STARTS, value="action", label="Both start from", elem_id="race-start",
            info="A name, a picture, or the beginning of a clip.",
        )  # fmt: skip
        with gr.Column(visible=False) as self.picture_box:
            self.picture = gr.Image(
                label="First frame", sources=["upload", "clipboard"], height=220,
                elem_id="race-picture", buttons=[], alt_text="The first frame of both clips",
            )  # fmt: skip
            self._take_files("frame", self.picture, "Photographs to race with")
        with gr.Column(visible=False) as self.clip_box:
            self.clip = gr.Video(
                label="Clip to continue", sources=["upload"], height=220, elem_id="race-clip",
                buttons=[],
            )  # fmt: skip
            self._take_files("clip", self.clip, "Clips to race with")
        self.action = gr.Dropdown(
            controls.action_choices(names), value=controls.favourite("action", names),
            label="Action", elem_id="race-action", info="What happens in both clips.",
        )  # fmt: skip

    def _take_files(self, start: Start, target: gr.Image | gr.Video, label: str) -> None:
        controls.hand_over_path(target)
        rows = controls.examples(self.session, start)
        if rows:
            gr.Examples(rows, [target], label=label, api_visibility="private", examples_per_page=8)

    def _build_settings(self) -> None:
        top_k, top_p, temperature, guidance = controls.PRESETS["Paper"]
        with gr.Accordion("Sampling, the same for both", open=False):
            self.temperature = gr.Slider(
                0, 2, temperature, step=0.05, label="Temperature",
                info="0 always takes the likeliest token.",
            )  # fmt: skip
            self.top_k = gr.Slider(
                1, controls.MAX_TOP_K, top_k, step=1, label="Top-k",
                info="Choose among so many of the likeliest tokens.",
            )  # fmt: skip
            self.top_p = gr.Slider(
                0.05, 1, top_p, step=0.01, label="Top-p",
                info="Choose among the likeliest that together reach this probability.",
            )  # fmt: skip
            self.guidance = gr.Slider(
                1, 6, guidance, step=0.1, label="Guidance",
                info="Above 1 the action is followed more, and every step costs twice.",
            )  # fmt: skip
        self.seed = gr.Number(
            42, label="Seed", precision=0, minimum=0, elem_id="race-seed",
            info="The same for both; leave it empty for a new one.",
        )  # fmt: skip

    def _build_result(self) -> None:
        with gr.Column(visible=False, elem_id="race-result") as self.result:
            self.headline = gr.Markdown(elem_id="race-headline")
            self.replay = gr.HTML(
                {}, html_template=REPLAY_TEMPLATE, js_on_load=REPLAY_JS,
                elem_id="race-replay", label="Replay",
            )  # fmt: skip
            self.measured = gr.Markdown(elem_id="race-measured")
            with gr.Tabs():
                with gr.Tab("Figures"):
                    self.figures = gr.HTML(elem_id="race-figures", label="Figures")
                with gr.Tab("Tokens over time"):
                    self.tokens_plot = gr.Plot(
                        show_label=False, elem_id="race-tokens", elem_classes="race-chart"
                    )
                with gr.Tab("Steps"):
                    self.steps_plot = gr.Plot(
                        show_label=False, elem_id="race-steps", elem_classes="race-chart"
                    )
            with gr.Row():
                self.downloads = [
                    gr.DownloadButton(label, size="sm", min_width=90, elem_id=f"race-get-{name}")
                    for name, label in (
                        ("first", "First clip, MP4"),
                        ("second", "Second clip, MP4"),
                        ("figures", "All figures, JSON"),
                    )
                ]
