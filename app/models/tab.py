"""The Models tab: the models that are ready, what each needs, and how to add another."""

from __future__ import annotations

from functools import partial

import gradio as gr

from app.jobs import JobView
from app.models import jobs, listing
from app.models.jobs import Precision
from app.parts.events import LIGHT, OWN, Updates, refusals
from app.parts.follow import Follower
from app.parts.sources import component_script
from app.session import Session

_PRECISIONS = [("as in the file", "keep"), ("half (float16)", "float16"), ("bfloat16", "bfloat16")]


def commands(models: str) -> dict[str, tuple[str, str]]:
    """Label -> (command, one line of help) for each way to a model of one's own."""
    engine = "python -m nbp_core"
    data = "--clips FOLDER --photos FOLDER"
    return {
        "Convert a released file": (
            f"{engine} convert FILE {models}/NAME",
            "One of the authors' files (.pt or .ckpt) becomes a model folder; nothing in it is"
            " executed.",
        ),
        "Train a tokenizer": (
            f"{engine} train-tokenizer {data} --run runs/NAME --minutes 90",
            f"Leaves the model in runs/NAME/model; copy that folder to {models}/NAME.",
        ),
        "Train a transformer": (
            f"{engine} train-transformer {data} --tokenizer {models}/nano --run runs/NAME"
            " --minutes 40",
            f"Leaves the model in runs/NAME/model; copy that folder to {models}/NAME, beside its"
            " tokenizer.",
        ),
    }


class ModelsTab:
    """Layout and wiring; every handler is a method."""

    def __init__(
        self, session: Session, blocks: gr.Blocks, model: gr.Dropdown, follower: Follower
    ) -> None:
        self.session = session
        self.model = model
        self.follower = follower
        with gr.Row(equal_height=False):
            with gr.Column(scale=4, min_width=340):
                with gr.Row():
                    self.again = gr.Button("Refresh", size="sm", elem_id="refresh-models")
                    self.hash = gr.Button("Compute fingerprints", size="sm", elem_id="fingerprints")
                    self.hash_halt = gr.Button(
                        "Stop",
                        variant="stop",
                        size="sm",
                        interactive=False,
                        elem_id="fingerprints-stop",
                    )
                gr.Markdown(
                    "A fingerprint is the SHA-256 of a model's weights: equal fingerprints mean"
                    " equal weights.",
                    elem_classes="quiet",
                )
                self.status = gr.HTML(
                    listing.status(None), elem_id="models-status", label="Status",
                    elem_classes="status-line",
                )  # fmt: skip
                self.list = gr.HTML(
                    listing.READING, elem_id="model-list", label="Models",
                    js_on_load=component_script(__file__, "listing.js"),
                )  # fmt: skip
            with gr.Column(scale=2, min_width=340):
                self._build_add()
        self._wire(blocks)

    def _build_add(self) -> None:
        gr.HTML("<h2>Add a model</h2>", label="Add a model")
        gr.Markdown(
            "A model is a folder with config.json, model.safetensors and a card. Put it beside the"
            " others and press Refresh. The commands run in the studio's folder, in a terminal.",
            elem_classes="quiet",
        )
        for label, (command, help_line) in commands(self.session.models.name).items():
            gr.Textbox(
                command, label=label, info=help_line, lines=2, interactive=True, buttons=["copy"]
            )
        is_local = self.session.is_local
        gr.Markdown(
            "Converting from this page is only offered when the studio is served to this machine"
            " alone.",
            elem_classes="quiet", visible=not is_local,
        )  # fmt: skip
        with gr.Accordion("Convert here", open=False, visible=is_local):
            self.file = gr.Textbox(
                label="File on this computer", elem_id="convert-file", max_lines=1,
                info="Path of a released .pt or .ckpt. The file is read in place, not uploaded.",
            )  # fmt: skip
            self.name = gr.Textbox(
                label="Name of the new model", elem_id="convert-name", max_lines=1,
                info="The name of its folder. Call the authors' tokenizers magvit2_ucf and"
                " magvit2_k600: their transformers look for these names.",
            )  # fmt: skip
            self.precision = gr.Radio(
                _PRECISIONS, value="keep", label="Precision", elem_id="convert-precision",
                info="float16 and bfloat16 need half the disk space of float32.",
            )  # fmt: skip
            with gr.Row(elem_classes="pair-row"):
                self.go = gr.Button("Convert", variant="primary", elem_id="convert")
                self.go_halt = gr.Button(
                    "Stop", variant="stop", interactive=False, elem_id="convert-stop"
                )

    def _wire(self, blocks: gr.Blocks) -> None:
        listed = [self.list, self.model]
        blocks.load(self.refresh, self.model, listed, **LIGHT)
        self.renewed = self.again.click(self.read_anew, self.model, listed, **LIGHT)
        """After it, the folder of the chosen model may hold another one."""
        follower = self.follower
        # One job at a time: each Stop ends either.
        buttons, halts = [self.hash, self.go], [self.hash_halt, self.go_halt]
        shown = [self.status, *listed]
        follower.start(
            self.draw, shown, often=[self.status], go=buttons, halt=halts, also=[self.model],
            idle=lambda: {self.status: listing.status(None)},
        )  # fmt: skip
        follower.find_again(blocks)
        followed = [follower.job_id, *follower.shown]
        self.hash.click(self.compute_fingerprints, self.model, followed, **OWN)
        values = [self.file, self.name, self.precision, self.model]
        self.go.click(self.convert, values, followed, **OWN)

    def refresh(self, model: str | None) -> tuple[str, gr.Dropdown]:
        """The list, and the models to choose from in the header."""
        names = [*self.session.model_names(), *self.session.speed_only_names()]
        listed = listing.model_list(self.session)
        if model in names:
            return listed, gr.Dropdown(choices=names)
        return listed, gr.Dropdown(choices=names, value=next(iter(names), None))

    def read_anew(self, model: str | None) -> tuple[str, gr.Dropdown]:
        """Refresh: folders may hold other weights now, so none stays loaded."""
        self.session.forget_models()
        return self.refresh(model)

    def compute_fingerprints(self, model: str | None) -> Updates:
        """Reads all weights in a job."""
        entries = [e for e in listing.read_catalogue(self.session) if not e.fault]
        work = partial(jobs.fingerprint_all, self.session, entries)
        with refusals():
            return self.follower.follow(self.session.jobs.submit(work), model)

    def convert(self, file: str, name: str, precision: Precision, model: str | None) -> Updates:
        """Converts a file on this machine in a job."""
        with refusals():
            request = jobs.conversion_request(self.session, file, name, precision)
            job = self.session.jobs.submit(partial(jobs.convert, request))
            return self.follower.follow(job, model)

    def draw(self, view: JobView, model: str | None) -> Updates:
        """Shows the job's progress, then the renewed list. A stopped job leaves nothing."""
        updates: Updates = {self.status: listing.status(view)}
        if view.state.is_final:
            updates[self.list], updates[self.model] = self.refresh(model)
        return updates
