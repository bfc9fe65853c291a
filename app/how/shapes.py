"""Any block shape: the grid cut by it, how it is filled, and what that is worth."""

from __future__ import annotations

from functools import partial
from html import escape
from typing import Any, Final

import gradio as gr

from app.how import measure, plan
from app.how.charts import paper_chart, speeds_chart, stored_chart
from app.how.measure import BlockSpeeds
from app.how.stored import FIGURES, StoredFigures, stored
from app.jobs import JobView
from app.parts.events import LIGHT, OWN, Updates, refusals, when
from app.parts.follow import Follower
from app.parts.sources import component_script, template
from app.parts.status import line, standing
from app.session import Session
from nbp_core.config.shapes import CLIP_FRAMES, Size3, format_block_shape
from nbp_core.results.paper import FIGURE_6_7, PAPER, TABLE1, TABLE3

_ROW: Final[Size3] = (1, 1, 16)
_GIVENS = [("an action alone", "action"), ("the first frame", "frame")]

_ABOUT: Final = """
## Any block shape, step by step

Choose a block shape, then follow the steps. Each token of one block predicts the token at the same
place of the next block.
"""
_ONE_COLOUR: Final = (
    "Compare bars of one colour: each colour is one measurement, with its own machine, weights and"
    " clips.\n"
)
_NONE_STORED: Final = (
    "No measured figures by block shape are stored with this copy of the project yet; the button"
    " below measures speeds here and now with the model chosen at the top of the page."
)


class Shapes:
    """Builds this part of the tab and wires it; every handler is a method."""

    def __init__(
        self,
        session: Session,
        blocks: gr.Blocks,
        model: gr.Dropdown,
        tab: gr.Tab,
        follower: Follower,
    ) -> None:
        self.session = session
        self.model = model
        self.follower = follower
        gr.Markdown(_ABOUT, elem_id="blocks-about")
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=340):
                self._build_choice()
            with gr.Column(scale=4, min_width=340):
                self.numbers = gr.HTML(
                    plan.numbers(_ROW), elem_id="blocks-numbers",
                    label="Numbers",
                )  # fmt: skip
                self.picture = gr.HTML(
                    {}, html_template=template(__file__, "picture.html"),
                    js_on_load=component_script(__file__, "picture.js"),
                    elem_id="blocks-picture", label="How a clip is made",
                )  # fmt: skip
        self._build_worth()
        self._wire(blocks, tab)
        kept = [*self.stored.values(), self.stored_words]
        tab.select(self.show_stored, None, kept, **LIGHT)

    def _build_choice(self) -> None:
        self.shape = gr.Radio(
            plan.choices(is_given=False), value=format_block_shape(_ROW), label="Block shape",
            elem_id="blocks-shape",
            info="The paper's nine shapes, each as latent frames x rows x columns. Steps are those"
            f" of a clip of {CLIP_FRAMES} frames.",
        )  # fmt: skip
        gr.Markdown("Or enter any shape that divides the grid evenly:", elem_classes="quiet")
        with gr.Row():
            self.sides = [
                gr.Number(
                    value, label=label, info=info, min_width=90, elem_id=f"blocks-{label.lower()}",
                )
                for value, label, info in zip(
                    _ROW, ("Time", "Height", "Width"),
                    ("latent frames", "rows", "columns"), strict=True,
                )
            ]  # fmt: skip
        self.refused = gr.HTML(elem_id="blocks-refusal", label="Refusal")
        self.given = gr.Radio(
            _GIVENS, value="action", label="The clip starts from", elem_id="blocks-given",
            info="From an action, the first block is made token by token.",
        )  # fmt: skip

    def _build_worth(self) -> None:
        gr.Markdown("## Speed and quality by block size\nMore tokens per step mean fewer steps, "
                    "but tokens sampled together cannot depend on one another.")  # fmt: skip
        with gr.Row(equal_height=False):
            with gr.Column(min_width=340):
                gr.Markdown("### Measured by this project", elem_classes="blocks-title")
                self.stored = {
                    key: gr.Plot(
                        show_label=False, visible=False, elem_id=f"blocks-stored-{key}",
                        elem_classes="blocks-chart",
                    )
                    for key in FIGURES
                }  # fmt: skip
                self.stored_words = gr.Markdown(elem_id="blocks-stored", elem_classes="quiet")
                with gr.Row(elem_classes="pair-row"):
                    self.go = gr.Button("Measure on this machine", elem_id="blocks-go")
                    self.halt = gr.Button(
                        "Stop", variant="stop", elem_id="blocks-stop", interactive=False
                    )
                self.status = gr.HTML(_status(None), elem_id="blocks-status", label="Status")
                self.plot = gr.Plot(
                    show_label=False, visible=False, elem_id="blocks-speeds",
                    elem_classes="blocks-chart",
                )  # fmt: skip
                self.measured = gr.Markdown(elem_id="blocks-measured", elem_classes="quiet")
            with gr.Column(min_width=340):
                gr.Markdown(
                    "### Reported by the paper, not measured here", elem_classes="blocks-title"
                )
                gr.Plot(
                    paper_chart(), show_label=False, elem_id="blocks-paper-chart",
                    elem_classes="blocks-chart",
                )  # fmt: skip
                gr.Markdown(_paper_words(), elem_id="blocks-paper", elem_classes="quiet")

    def _wire(self, blocks: gr.Blocks, tab: gr.Tab) -> None:
        # The browser fills the numbers itself: an answer could undo what was entered meanwhile.
        fill = "(shape) => shape.split('x').map(Number)"
        self.shape.input(None, self.shape, self.sides, js=fill, **LIGHT)
        typed = [side.input for side in self.sides]
        when(
            [tab.select, self.shape.input, *typed, self.given.input],
            self.cut, [*self.sides, self.given],
            [self.shape, self.picture, self.numbers, self.refused], **LIGHT,
        )  # fmt: skip
        follower = self.follower
        shown = [self.status, self.plot, self.measured]
        follower.start(self.draw, shown, often=[self.status], go=[self.go], halt=[self.halt])
        follower.find_again(blocks)
        self.go.click(self.measure, self.model, [follower.job_id, *follower.shown], **OWN)

    def cut(self, t: float | None, h: float | None, w: float | None, given: str) -> tuple[Any, ...]:
        """Any shape: draws it, or says why not and leaves the picture as it is."""
        try:
            shape = plan.parse(t, h, w)
        except ValueError as error:
            refused = f'<p role="alert">{escape(_sentence(error))}</p>'
            return gr.skip(), gr.skip(), gr.skip(), refused
        is_given = given == "frame"
        known = format_block_shape(shape) if shape in plan.SHAPES else None
        choice = gr.Radio(choices=plan.choices(is_given), value=known)
        return choice, plan.plan(shape, is_given), plan.numbers(shape), ""

    def show_stored(self) -> Updates:
        """The figures kept with the project, as its files are now."""
        kept = stored(self.session.results) if self.session.results else []
        updates: Updates = {self.stored_words: _stored_words(kept) if kept else _NONE_STORED}
        for key, plot in self.stored.items():
            is_there = any(key in figures.by_shape for figures in kept)
            chart = stored_chart(kept, key) if is_there else None
            updates[plot] = gr.Plot(chart, visible=is_there)
        return updates

    def measure(self, model: str) -> Updates:
        """Times every block shape of the chosen model."""
        with refusals():
            self.session.pipeline(model)
            job = self.session.jobs.submit(partial(measure.run, self.session, model))
        return self.follower.follow(job)

    def draw(self, view: JobView) -> Updates:
        """How the measurement stands; nothing is shown of half of one."""
        updates: Updates = {self.status: _status(view)}
        if isinstance(view.result, BlockSpeeds):
            updates[self.plot] = gr.Plot(speeds_chart(view.result.speeds), visible=True)
            updates[self.measured] = view.result.measured
        return updates


def _status(view: JobView | None) -> str:
    _, text, kind = standing(view, lambda _: "Done.")
    return line(text, kind)


def _sentence(error: ValueError) -> str:
    text = str(error)
    return text[0].upper() + text[1:].rstrip(".") + "."


def _stored_words(kept: list[StoredFigures]) -> str:
    return _ONE_COLOUR + "".join(
        # No full stop after the command: it would fall on a line of its own.
        f"\n- {figures.title}: weights {figures.weights}"
        f"{'' if figures.file.device in figures.title else f', on {figures.file.device}'}."
        f" Measured by `{figures.file.command}`"
        for figures in kept
    )


def _paper_words() -> str:
    return (
        f"{PAPER}. Speed: tables and figures of its 700M model, {TABLE1.setting}; 256 tokens from"
        f" figure 7. FVD: table 3 and figure 6, {TABLE3.setting}, trained longer than for table 1."
        " Shapes without a mark have no printed figure. " + " ".join(FIGURE_6_7.facts)
    )
