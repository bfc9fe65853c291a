"""The Compare tab: what happens when its controls are used."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr

from app import compare, compare_view, controls
from app.compare import RaceOutcome
from app.compare_page import ComparePage, usual_pair
from app.compare_plots import steps_chart, tokens_chart
from app.controls import refusal
from app.jobs import Job
from app.request import Start, make_request, read_start
from app.session import Session
from nbp_core.config import CLIP_FRAMES, parse_block_shape

Updates = dict[Any, Any]
Seen = tuple[str, int]
"""Which state of which job a page shows: (job id, version)."""

_INPUTS = (
    "model", "start", "action", "picture", "clip", "temperature", "top_k", "top_p", "guidance",
    "seed",
)  # fmt: skip
_OWN: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Of events that may refuse something: only those that take the queue can show a note."""
_LIGHT: dict[str, Any] = {**_OWN, "queue": False}
"""Of events that cannot fail and should wait for nobody."""


class CompareTab:
    """Wires the page to the session; every handler is a method."""

    def __init__(self, session: Session, blocks: gr.Blocks, model: gr.Dropdown) -> None:
        self.session = session
        self.page = ComparePage(session, blocks, model)
        self._wire_run()
        self._wire_controls()
        self._wire_api()

    def _inputs(self) -> list[Any]:
        return [self.page.first, self.page.second, *(getattr(self.page, n) for n in _INPUTS)]

    def _wire_run(self) -> None:
        page = self.page
        shown = [
            page.timer, page.seen, page.go, page.halt, page.status, page.result, page.headline,
            page.replay, page.measured, page.figures, page.tokens_plot, page.steps_plot,
            *page.downloads,
        ]  # fmt: skip
        tell = {"fn": self.poll, "inputs": [page.job_id, page.seen], "outputs": shown, **_LIGHT}
        page.go.click(self.begin, self._inputs(), [page.job_id, page.seed, *shown], **_OWN)
        page.halt.click(self.stop, page.job_id, page.halt, **_LIGHT)
        page.timer.tick(**tell)
        page.blocks.load(**tell)

    def _wire_controls(self) -> None:
        page = self.page
        gr.on(
            [page.model.change, page.start.change],
            self.change_choices,
            [page.model, page.start, page.action, page.first, page.second],
            [page.first, page.second, page.action],
            **_LIGHT,
        )
        page.start.change(
            self.show_uploads, page.start, [page.picture_box, page.clip_box], **_LIGHT
        )
        for upload in (page.picture, page.clip):
            checked = upload.upload(
                self.check_upload, [page.start, page.picture, page.clip], None, **_OWN
            )
            checked.failure(lambda: None, None, upload, **_LIGHT)

    def _wire_api(self) -> None:
        with gr.Row(visible=False):
            button, first, second = gr.Button(), gr.File(), gr.File()
            figures = gr.JSON()
        button.click(
            self.compare, self._inputs(), [first, second, figures],
            api_name="compare", concurrency_limit=16, concurrency_id="api",
        )  # fmt: skip

    def begin(self, first: str, second: str, *values: Any) -> Updates:
        """Start: checks the settings, queues the race and makes the page follow it."""
        page = self.page
        try:
            job = self._submit(first, second, values)
        except ValueError as error:
            raise refusal(error) from error
        return {
            page.job_id: job.id,
            page.seed: job.request.sampling.seed,
            page.result: gr.Column(visible=False),
            **self.poll(job.id, ("", 0)),
            page.timer: gr.Timer(active=True),
        }

    def compare(
        self,
        first: str = "1x1x1",
        second: str = "1x1x16",
        model: str | None = None,
        start: Start = "action",
        action: str = "",
        picture: str | None = None,
        clip: str | None = None,
        temperature: float = 1.0,
        top_k: int = controls.MAX_TOP_K,
        top_p: float = 0.9,
        guidance: float = 1.0,
        seed: int | None = None,
    ) -> tuple[str, str, dict[str, Any]]:
        """Runs one race to its end: the two clips' files, and all figures."""
        values = (model, start, action, picture, clip, temperature, top_k, top_p, guidance, seed)
        try:
            job = self._submit(first, second, values)
            job.finished.wait()
            if job.result is None:
                raise ValueError(job.error or "The race was stopped before it began.")
        except ValueError as error:
            raise refusal(error) from error
        return str(job.result.clips[0]), str(job.result.clips[1]), job.result.report

    def _submit(self, first: str, second: str, values: tuple[Any, ...]) -> Job:
        settings = dict(zip(_INPUTS, values, strict=True))
        request = make_request(**settings, block=first, num_frames=CLIP_FRAMES)
        shapes = parse_block_shape(first), parse_block_shape(second)
        compare.check_model(self.session.pipeline(request.model))
        compare.check_race(request, shapes)
        return self.session.jobs.submit(
            partial(compare.run, self.session, request, shapes), request
        )

    def stop(self, job_id: str) -> gr.Button:
        """Stop: the race ends within one step; nothing is kept of half a race."""
        self.session.jobs.stop(job_id)
        return gr.Button(interactive=False)

    def poll(self, job_id: str, seen: Seen) -> Updates:
        """What has changed since the page was last told; finds a race again after a reload."""
        page = self.page
        view = self.session.jobs.view(job_id)
        if view is None:
            return {page.timer: gr.Timer(active=False)}
        if tuple(seen) == (view.id, view.version):
            return {page.seen: seen}
        updates: Updates = {
            page.seen: (view.id, view.version),
            page.timer: gr.Timer(active=not view.state.is_final),
            page.go: gr.Button(interactive=view.state.is_final),
            page.halt: gr.Button(interactive=not view.state.is_final),
            page.status: compare_view.status(view),
        }
        if view.result is not None:
            updates |= self._result(view.result)
        return updates

    def _result(self, outcome: RaceOutcome) -> Updates:
        page = self.page
        files = (*outcome.clips, outcome.figures)
        if not all(path.is_file() for path in files):
            return {}  # made way for newer clips
        return {
            page.result: gr.Column(visible=True),
            page.headline: compare_view.headline(outcome),
            page.replay: compare_view.replay(outcome),
            page.measured: outcome.measured,
            page.figures: compare_view.figures_table(outcome),
            page.tokens_plot: tokens_chart(outcome.race),
            page.steps_plot: steps_chart(outcome.race),
            **dict(zip(page.downloads, map(str, files), strict=True)),
        }

    def change_choices(
        self, model: str, start: Start, action: str, first: str, second: str
    ) -> tuple[gr.Dropdown, gr.Dropdown, gr.Dropdown]:
        """Counts the steps anew and offers what the model can do; keeps what still fits."""
        steps = controls.count_steps(self.session, model, start, CLIP_FRAMES)
        choices = controls.block_choices(steps)
        first, second = usual_pair([value for _, value in choices], first, second)
        names = controls.action_names(self.session, model)
        kept = action if action in ("", *names) else controls.favourite(start, names)
        return (
            gr.Dropdown(choices=choices, value=first),
            gr.Dropdown(choices=choices, value=second),
            gr.Dropdown(choices=controls.action_choices(names), value=kept),
        )

    def show_uploads(self, start: Start) -> tuple[gr.Column, gr.Column]:
        """Shows the upload that the start needs."""
        return gr.Column(visible=start == "frame"), gr.Column(visible=start == "clip")

    def check_upload(self, start: Start, picture: str | None, clip: str | None) -> None:
        """Refuses a bad file at once, before anything is started with it."""
        try:
            read_start(start, picture, clip)
        except ValueError as error:
            raise refusal(error) from error
