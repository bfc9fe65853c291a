"""How a grid lies on the Compare tab: what varies left, the clips right."""

from __future__ import annotations

import gradio as gr

from app.clips.form import Start
from app.compare.grid import view
from app.compare.grid.form import LEAST, MOST
from app.parts import controls
from app.parts.sources import component_script, template
from app.session import Session
from nbp_core.config.shapes import CLIP_FRAMES

VARIES = [
    ("seed", "seed"),
    ("block size", "block"),
    ("temperature", "temperature"),
    ("model", "model"),
]
TEMPERATURES = "0.4, 0.7, 1, 1.3"
SHARED = (
    "All clips use the start, action, sampling settings and seed chosen above and the challenger's"
    " block. Only the setting chosen here varies. On a CPU, each clip equals the one that"
    " Generate makes alone with the same settings."
)


class GridPage:
    """Builds the controls on the left and the clips on the right."""

    def __init__(self, session: Session, model: str | None) -> None:
        self.session = session
        box = gr.Accordion("A grid of clips", open=False, elem_id="grid-box")
        with box, gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                self._build_values(model)
                gr.Markdown(SHARED, elem_classes="quiet")
                with gr.Row(elem_classes="pair-row"):
                    self.go = gr.Button("Make the grid", variant="primary", elem_id="grid-go")
                    self.halt = gr.Button(
                        "Stop", variant="stop", elem_id="grid-stop", interactive=False
                    )
            with gr.Column(scale=4, min_width=300):
                self.status = gr.HTML(view.status(None), elem_id="grid-status", label="Status")
                self.cells = gr.HTML(
                    {}, html_template=template(__file__, "../clock.html", "grid.html"),
                    js_on_load=component_script(__file__, "grid.js"), elem_id="grid",
                    label="Clips of the grid",
                )  # fmt: skip
                self.measured = gr.HTML(elem_id="grid-measured", label="What was measured")
        self.box = box

    def _build_values(self, model: str | None) -> None:
        self.vary = gr.Radio(
            VARIES, value="seed", label="What varies", elem_id="grid-vary",
            info=f"A grid has {LEAST} to {MOST} clips.",
        )  # fmt: skip
        self.num_seeds = gr.Slider(
            LEAST, MOST, 4, step=1, label="Seeds", elem_id="grid-seeds", buttons=[],
            info="Number of clips. Their seeds count up from the seed above.",
        )  # fmt: skip
        blocks = block_names(self.session, model)
        self.blocks = gr.CheckboxGroup(
            blocks, value=[value for _, value in blocks], label="Block sizes",
            elem_id="grid-blocks", visible=False,
        )  # fmt: skip
        self.temperatures = gr.Textbox(
            TEMPERATURES, label="Temperatures", elem_id="grid-temperatures", visible=False,
            info="Numbers from 0 to 10 with commas between them.",
        )  # fmt: skip
        models = self.session.model_names()
        self.models = gr.CheckboxGroup(
            models, value=models[:MOST], label="Models", elem_id="grid-models", visible=False,
        )  # fmt: skip
        self.values = (self.num_seeds, self.blocks, self.temperatures, self.models)
        """In the order of VARIES."""


def block_names(
    session: Session, model: str | None, start: Start = "action"
) -> list[tuple[str, str]]:
    """The blocks in which a model can make a clip, and their numbers of steps."""
    steps = controls.count_steps(session, model, start, CLIP_FRAMES)
    return controls.block_choices(steps)
