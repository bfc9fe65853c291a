"""The Generate tab: what happens when its controls are used."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from html import escape
from typing import Any

import gradio as gr

from app.clips import run
from app.clips.form import FIELDS, Start
from app.clips.kept import find_clip
from app.clips.request import Request, make_request, random_seed, shown_length, values_of
from app.clips.run import Outcome
from app.generate import live
from app.generate.page import GeneratePage
from app.generate.reuse import Reuse
from app.jobs import Job, JobState, JobView
from app.parts import controls
from app.parts.api import CALLS, call_of, defaults_of, hand_over_values, inputs_of
from app.parts.charts import timing_chart
from app.parts.clip_view import clip_view
from app.parts.events import LAST, LIGHT, OWN, Menus, Updates, refusal, refusals, when
from app.parts.follow import Begun, Seen, finish
from app.parts.pictures import file_uri
from app.parts.status import counters, status
from app.parts.uploads import as_upload, refit_start, start_radio, wire_uploads
from app.session import Session
from nbp_core.config.shapes import parse_block_shape

_KIND = "(model, block, job, view) => [model, block, job, view.kind]"
"""Sends the kind of a view instead of all its pictures."""
_BUSY = "A run is in progress. Stop it or wait for it, then start another."


class GenerateTab:
    """Wires the page to the session; every handler is a method."""

    def __init__(self, session: Session, page: GeneratePage) -> None:
        self.session = session
        self.page = page
        self._beginning = threading.Lock()
        values = {name: getattr(page, name) for name in FIELDS}
        hand_over_values([values[name] for name in FIELDS if name not in ("picture", "clip")])
        self._wire_run()
        self._wire_controls()
        self._wire_api()
        self.reuse = Reuse(self)

    def _wire_run(self) -> None:
        page = self.page
        shown = [
            page.hold, page.step, page.welcome.box, page.preview, page.counters, page.status,
            page.result, page.plot, page.frames, page.manifest, page.measured,
            *page.downloads.values(), *page.past.parts,
        ]  # fmt: skip
        follower = page.follower
        often = [page.preview, page.counters, page.status]
        follower.start(
            self.draw, shown, often=often, go=[page.go], halt=[page.halt],
            idle=lambda: {
                page.status: status(None), page.hold: gr.Button("Pause", interactive=False)
            },
        )  # fmt: skip
        found = [*self._controls(), page.facts, *follower.shown]
        self.came_back = page.blocks.load(self.come_back, follower.asked, found, **LIGHT)
        followed = [follower.job_id, page.seed, *follower.shown]
        given = [page.begun, *self.inputs()]
        page.go.click(self.alone(self.begin), given, followed, **OWN)
        page.hold.click(self.pause, follower.job_id, None, **LIGHT)
        page.step.click(self.take_step, follower.job_id, None, **LIGHT)

        outputs = [*self.inputs(), *followed]
        page.welcome.robot.click(self.alone(self.make_robot), given, outputs, **OWN)
        page.welcome.cat.click(self.alone(self.make_cat), given, outputs, **OWN)

    def _wire_controls(self) -> None:
        page = self.page
        start_of: list[Any] = [page.model, page.start, page.num_frames, page.actions]
        sampling = [page.block, page.top_k, page.top_p, page.temperature, page.guidance]
        counted = [*start_of, page.block]
        chosen = [page.model, page.start, page.action, page.actions]
        offered = [page.start, page.action, page.actions]
        self.menus: Menus = (
            (self.change_blocks, counted, [page.block]), (self.refit, chosen, offered)
        )  # fmt: skip
        changes = [part.change for part in start_of]
        when(changes, self.change_blocks, counted, page.block, **LIGHT)
        suggest = partial(self.refit, suggests=True)
        when([page.model.input], suggest, chosen, offered, **LIGHT)
        recipes = page.welcome.recipes
        when([page.model.change], page.welcome.refit, page.model, recipes, **LIGHT)
        wire_uploads(page)
        loading = when([page.model.input], self.announce, page.model, page.facts, **LIGHT)
        loading.then(self.facts_of, page.model, page.facts, **OWN, **LAST)
        page.start.input(
            self.suggest, [page.model, page.start, page.temperature],
            [page.action, page.temperature], **LIGHT, **LAST,
        )  # fmt: skip
        cut = [page.model, page.block, page.follower.job_id, page.preview]
        page.block.change(self.show_cut, cut, page.preview, js=_KIND, **LIGHT)
        for name, button in page.presets.items():
            button.click(partial(self.apply_preset, name), start_of, sampling, **LIGHT)
        page.dice.click(random_seed, None, page.seed, **LIGHT)

    def _wire_api(self) -> None:
        defaults = {**defaults_of(FIELDS), "model": self.page.model.value}
        with gr.Row(visible=False):
            button = gr.Button()
            clip, settings = gr.File(label="clip"), gr.JSON(label="settings")
            inputs = inputs_of(defaults)
        button.click(
            call_of(self.generate, defaults), inputs, [clip, settings],
            api_name="generate", **CALLS,
        )  # fmt: skip

    def inputs(self) -> list[Any]:
        """The components whose values make a request."""
        return [getattr(self.page, name) for name in FIELDS]

    def _controls(self) -> list[Any]:
        """The inputs but for the uploads: a page whose load may fill an upload shows no note when
        a file is refused."""
        page = self.page
        return [part for part in self.inputs() if part not in (page.picture, page.clip)]

    def alone(self, begin: Callable[..., Updates]) -> Callable[..., Updates]:
        """The handler of a button that begins a run: while one of this page is under way, it is
        refused. The page disables its buttons, but only once it has the answer to the first."""

        def begin_alone(begun: Begun, *values: Any) -> Updates:
            with self._beginning:
                job = self.session.jobs.get(begun.job_id)
                if begun.is_beginning or (job is not None and not job.state.is_final):
                    raise refusal(ValueError(_BUSY))
                begun.is_beginning = True
            try:
                updates = begin(*values)
                begun.job_id = updates[self.page.follower.job_id]
            finally:
                begun.is_beginning = False
            return updates

        return begin_alone

    def begin(self, *values: Any) -> Updates:
        """Generate: checks the settings, queues the run and makes the page follow it."""
        page = self.page
        with refusals():
            job = self._submit(values)
        return {
            page.seed: job.request.sampling.seed,
            page.result: gr.Column(visible=False),
            page.preview: live.idle_view(
                parse_block_shape(values[FIELDS.index("block")]),
                controls.grid_of(self.session, job.request.model),
            ),
            page.counters: counters(None),
            **page.follower.follow(job),
        }

    def make_robot(self, *values: Any) -> Updates:
        """The first recipe: a robot's action."""
        return self.begin_with(values, self.page.welcome.robot_values())

    def make_cat(self, *values: Any) -> Updates:
        """The second recipe: a camera move over a photograph."""
        keep = partial(as_upload, self.session)
        return self.begin_with(values, self.page.welcome.cat_values(keep))

    def begin_with(self, values: tuple[Any, ...], changed: dict[str, Any]) -> Updates:
        """Sets some of the controls, by the names of their fields, and generates."""
        form = dict(zip(FIELDS, values, strict=True)) | changed
        updates = {getattr(self.page, name): value for name, value in changed.items()}
        return {**updates, **self.begin(*form.values())}

    def generate(self, *values: Any) -> Iterator[Any]:
        """Runs one generation to its end: the clip's file, and the settings that repeat it."""
        submit = partial(self._submit, values)
        stopped = "The run was stopped before it began."
        outcome: Outcome = yield from finish(self.session.jobs, submit, 2, stopped)
        yield str(outcome.clip), outcome.manifest

    def _submit(self, values: tuple[Any, ...]) -> Job:
        request = make_request(**dict(zip(FIELDS, values, strict=True)))
        return self.session.jobs.submit(partial(run.run, self.session, request), request)

    def pause(self, job_id: str) -> None:
        """Pause, or Resume: the run waits before its next block, or continues."""
        job = self.session.jobs.get(job_id)
        if job is not None:
            (job.resume if job.is_paused else job.pause)()

    def take_step(self, job_id: str) -> None:
        """Step: a paused run makes one block."""
        job = self.session.jobs.get(job_id)
        if job is not None and job.is_paused:
            job.single_step()

    def come_back(self, job_id: str, seen: Seen) -> Updates:
        """A page that was opened or reloaded finds its run, the settings of that run and the kept
        clips, also after a restart of the studio."""
        with contextlib.suppress(ValueError):  # damaged: the page begins anew
            find_clip(self.session, job_id)
        return {
            **self.page.past.updates(job_id),
            **self._settings_of(job_id),
            **self.page.follower.poll(job_id, seen),
        }

    def facts_of(self, model: str | None) -> str:
        """Size, tokenizer and device of the chosen model, or why it cannot be used. Loads it."""
        try:
            return controls.facts(self.session.pipeline(model))
        except ValueError as error:
            return escape(str(error))

    def _settings_of(self, job_id: str) -> Updates:
        """The controls as they were when a run began, if its model is still in memory; a picture or
        a clip has to be chosen again."""
        view = self.session.jobs.view(job_id)
        request = view.request if view is not None else None
        if not isinstance(request, Request) or self.session.loaded(request.model) is None:
            return {}
        filled = self.fill(values_of(request))
        return {part: filled[part] for part in [*self._controls(), self.page.facts]}

    def fill(self, values: dict[str, Any]) -> Updates:
        """The controls with these values, by the names of their fields; the model is loaded."""
        page, model = self.page, values["model"]
        pipeline = self.session.pipeline(model)
        length = shown_length(values["start"], values["num_frames"], values["actions"])
        steps = controls.count_steps(self.session, model, values["start"], length)
        choices, _ = controls.action_menu(self.session, model, values["start"])
        plain = {getattr(page, name): value for name, value in values.items()}
        return plain | {
            page.facts: controls.facts(pipeline),
            page.start: start_radio(self.session, model, values["start"]),
            page.action: gr.Dropdown(choices=choices, value=values["action"]),
            page.actions: controls.timeline_box(pipeline.timeline_names, values["actions"], None),
            page.block: gr.Radio(choices=controls.block_choices(steps), value=values["block"]),
        }

    def draw(self, view: JobView) -> Updates:
        """How the run stands; a stopped one keeps what it has made."""
        page = self.page
        is_running = view.state is JobState.RUNNING
        is_paused = is_running and view.is_paused
        updates: Updates = {
            page.hold: gr.Button("Resume" if is_paused else "Pause", interactive=is_running),
            page.step: gr.Button(interactive=is_paused),
            page.status: status(view),
            page.welcome.box: gr.Column(visible=False),
            **self._progress(view),
        }
        return updates if view.result is None else updates | self._result(view.id, view.result)

    def _progress(self, view: JobView) -> Updates:
        page = self.page
        progress = view.result.last if view.result is not None else view.progress
        if progress is None:
            return {page.counters: counters(None)}
        return {
            page.preview: live.live_view(progress),
            page.counters: counters(progress),
        }

    def _result(self, job_id: str, outcome: Outcome) -> Updates:
        page = self.page
        if not outcome.clip.is_file():
            return {}  # made way for newer clips
        return {
            page.result: gr.Column(visible=True),
            page.preview: clip_view(job_id, outcome),
            page.plot: timing_chart(outcome.timings["per_step_s"], outcome.phases),
            page.frames: live.frame_strip(file_uri(outcome.strip), outcome.num_frames),
            page.manifest: live.settings_text(outcome.manifest),
            page.measured: outcome.measured,
            **{button: str(getattr(outcome, kind)) for kind, button in page.downloads.items()},
            **page.past.updates(job_id),
        }

    def announce(self, model: str) -> Any:
        """Says that the chosen model is being loaded: a large one takes a while."""
        return gr.skip() if self.session.loaded(model) else controls.loading(model)

    def refit(
        self,
        model: str,
        start: Start,
        action: str | None,
        actions: str | None,
        *,
        suggests: bool = False,
    ) -> Updates:
        """Another model: offers what it can do, also where it cannot be loaded.

        What was chosen stays if it suits the model. suggests: unless that is no action.
        """
        timeline = controls.timeline_names(self.session, model)
        _, suited = controls.suited_starts(self.session, model, start)
        chosen = controls.none_yet(suited, action) if suggests else action or ""
        choices, fitting = controls.action_menu(self.session, model, suited, chosen)
        return {
            self.page.start: refit_start(self.session, model, start),
            self.page.action: controls.refitted(gr.Dropdown, choices, fitting, action),
            self.page.actions: controls.timeline_box(timeline, actions, actions),
        }

    def change_blocks(
        self, model: str, start: Start, num_frames: int, actions: str | None, block: str
    ) -> gr.Radio:
        """Counts the steps anew; keeps the block if it still fits."""
        length = shown_length(start, num_frames, actions)
        steps = controls.count_steps(self.session, model, start, length)
        choices = controls.block_choices(steps)
        is_kept = block in (value for _, value in choices)
        fitting = block if is_kept else controls.preset_block("Balanced", steps)
        return controls.refitted(gr.Radio, choices, fitting, block)

    def suggest(self, model: str, start: Start, temperature: float) -> tuple[str, float]:
        """Action and temperature that suit the start."""
        _, action = controls.action_menu(self.session, model, start)
        return action, controls.suited_temperature(start, temperature)

    def show_cut(self, model: str, block: str, job_id: str, kind: str) -> Any:
        """The empty grid, cut by the chosen block; left alone while a run or a clip is shown.

        The server may no longer know the clip, so the page says of which kind its view is.
        """
        view = self.session.jobs.view(job_id)
        is_of_run = view is not None and (view.result is not None or not view.state.is_final)
        if is_of_run or kind == "clip":
            return gr.skip()
        grid = controls.grid_of(self.session, model)
        return live.idle_view(parse_block_shape(block), grid)

    def apply_preset(
        self, name: str, model: str, start: Start, num_frames: int, actions: str | None
    ) -> tuple[str, int, float, float, float]:
        """Fills block and sampling settings."""
        length = shown_length(start, num_frames, actions)
        steps = controls.count_steps(self.session, model, start, length)
        return controls.preset_block(name, steps), *controls.PRESETS[name]
