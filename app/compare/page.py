"""Layout of the Compare tab: the start and the two runners left, the race right."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr

from app.compare import view
from app.compare.pair import Pair
from app.compare.run import paper_words, why_no_race
from app.parts import controls, uploads
from app.parts.follow import Follower
from app.parts.sources import component_script, template
from app.session import Session
from nbp_core.config.shapes import CLIP_FRAMES

FIRST, SECOND = "1x1x1", "1x1x16"
"""The blocks that race unless others are chosen: the paper's baseline and its method."""


def usual_pair(offered: Sequence[str], first: str = FIRST, second: str = SECOND) -> tuple[str, str]:
    """The wanted blocks where they are offered, else the smallest and the largest; two different
    ones, if there are two."""
    if first == second:
        first, second = FIRST, SECOND
    first = first if first in offered else offered[0]
    others = [block for block in offered if block != first] or [first]
    return first, second if second in others else others[-1]


class ComparePage:
    """Builds the controls on the left and the race on the right."""

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
                    self.go = gr.Button("Start the race", variant="primary", elem_id="race-go")
                    self.halt = gr.Button(
                        "Stop", variant="stop", elem_id="race-stop", interactive=False
                    )
                self.note = gr.HTML(
                    why_no_race(session, model.value), elem_id="race-note", label="Note",
                    elem_classes="quiet",
                )  # fmt: skip
                self._build_runners()
                self._build_start()
                self._build_settings()
            with gr.Column(scale=4, min_width=340):
                self.status = gr.HTML(view.status(None), elem_id="race-status", label="Status")
                self._build_result()
                gr.Markdown(view.FAIR, elem_id="race-fair", elem_classes="quiet")
                gr.Markdown(paper_words(), elem_id="race-paper", elem_classes="quiet")
        self.pair = Pair(session)

    def _build_runners(self) -> None:
        steps = controls.count_steps(self.session, self.model.value, "action", CLIP_FRAMES)
        choices = controls.block_choices(steps)
        first, second = usual_pair([value for _, value in choices])
        self.first = gr.Dropdown(
            choices, value=first, label="Baseline", elem_id="race-first", filterable=False,
            info=f"Steps are those of a clip of {CLIP_FRAMES} frames. One token per step is"
            " next-token prediction.",
        )  # fmt: skip
        self.second = gr.Dropdown(
            choices, value=second, label="Challenger", elem_id="race-second", filterable=False,
            info="The speed-up compares the challenger with the baseline.",
        )  # fmt: skip

    def _build_start(self) -> None:
        actions, favourite = controls.action_menu(self.session, self.model.value, "action")
        self.start = gr.Radio(
            uploads.STARTS, value="action", label="Both start from", elem_id="race-start",
            info="An action by name, a picture, or the first five frames of a clip.",
        )  # fmt: skip
        with gr.Column(visible=False) as self.picture_box:
            self.picture = uploads.picture_upload(
                self.session, "First frame", "race-picture", "The first frame of both clips"
            )
            uploads.offer_examples(self.session, "frame", self.picture, "Photographs to try")
        with gr.Column(visible=False) as self.clip_box:
            self.clip = uploads.clip_upload("Clip to continue", "race-clip")
            gr.Markdown(uploads.FIVE_FRAMES, elem_classes="quiet")
            uploads.offer_examples(self.session, "clip", self.clip, "Clips to try")
        self.crop = uploads.crop_slider("race-crop")
        self.action = gr.Dropdown(
            actions, value=favourite,
            label="Action", elem_id="race-action", info="What happens in both clips.",
        )  # fmt: skip

        self.is_wanted = gr.State(False)
        """Whether the visitor chose the action; otherwise the start has suggested it."""
        for choice in (self.first, self.second, self.action):
            controls.hand_over_value(choice)

    def _build_settings(self) -> None:
        sliders = controls.sampling_sliders("Sampling, the same for both", "Paper")
        self.temperature, self.top_k, self.top_p, self.guidance = sliders
        self.seed = gr.Number(
            42, label="Seed", elem_id="race-seed",
            info="Both clips use this seed. Leave it empty for a random one.",
        )  # fmt: skip

    def _build_result(self) -> None:
        with gr.Column(visible=False, elem_id="race-result") as self.result:
            self.headline = gr.HTML(elem_id="race-headline", label="Speed-up")
            self.replay = gr.HTML(
                {}, html_template=template(__file__, "replay.html"),
                js_on_load=component_script(__file__, "replay.js"),
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
                        ("first", "Baseline clip (MP4)"),
                        ("second", "Challenger clip (MP4)"),
                        ("figures", "All figures (JSON)"),
                    )
                ]
