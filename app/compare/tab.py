"""The Compare tab: what happens when its controls are used."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from app.clips.form import FIELDS, Start
from app.clips.request import Request, make_request, values_of
from app.compare import run, view
from app.compare.charts import steps_chart, tokens_chart
from app.compare.grid.tab import Grid
from app.compare.page import ComparePage, usual_pair
from app.compare.run import PageRace, RaceResult
from app.jobs import Job, JobView
from app.parts import controls
from app.parts.api import CALLS, call_of, defaults_of, hand_over_values, inputs_of
from app.parts.events import LAST, LIGHT, OWN, Menus, Updates, refusals, when
from app.parts.follow import Follower, Seen, finish
from app.parts.uploads import refit_start, start_radio, wire_uploads
from app.session import Session
from nbp_core.config.json import JsonConfig
from nbp_core.config.shapes import CLIP_FRAMES, format_block_shape, parse_block_shape

_INPUTS = tuple(name for name in FIELDS if name not in ("block", "num_frames", "actions"))
_SETTINGS = tuple(name for name in _INPUTS if name not in ("picture", "clip"))
"""The inputs that a page which is loaded anew finds again; a file has to be chosen again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Runners(JsonConfig):
    """The block shapes of a race, as the page or a call of the API sends them."""

    first: str
    second: str


class CompareTab:
    """Wires the page to the session; every handler is a method."""

    def __init__(
        self,
        session: Session,
        blocks: gr.Blocks,
        model: gr.Dropdown,
        follower: Follower,
        grid_follower: Follower,
    ) -> None:
        self.session = session
        self.page = ComparePage(session, blocks, model, follower)
        self.grid = Grid(
            session, blocks, model, grid_follower, self._inputs()[1:], self._request_of_grid
        )
        self._settings = [self.page.first, self.page.second]
        self._settings += [getattr(self.page, name) for name in _SETTINGS]
        hand_over_values(self._settings)
        self._wire_run()
        self._wire_controls()
        self._wire_api()

    def _inputs(self) -> list[Any]:
        return [self.page.first, self.page.second, *(getattr(self.page, n) for n in _INPUTS)]

    def _wire_run(self) -> None:
        page = self.page
        shown = [
            page.status, page.result, page.headline, page.replay, page.measured, page.figures,
            page.tokens_plot, page.steps_plot, *page.downloads,
        ]  # fmt: skip
        follower = page.follower
        follower.start(
            self.draw, shown, often=[page.status], go=[page.go], halt=[page.halt],
            idle=lambda: {page.status: view.status(None)},
        )  # fmt: skip
        varied = [self.grid.page.vary, *self.grid.page.values]
        self.found_again = [
            *self._settings, page.is_wanted, page.note, *follower.shown, *varied
        ]  # fmt: skip
        """What come_back changes."""
        page.go.click(
            self.begin, self._inputs(), [follower.job_id, page.seed, *follower.shown], **OWN
        )

    def _wire_controls(self) -> None:
        page = self.page
        varied = [self.grid.page.blocks, self.grid.page.models]
        self.menus: Menus = (
            (
                self.change_choices,
                [page.model, page.start, page.action, page.is_wanted, page.first, page.second],
                [page.note, page.first, page.second, page.action],
            ),
            (self.grid.offer, [page.model, page.start, *varied], varied),
            (partial(refit_start, self.session), [page.model, page.start], [page.start]),
        )
        choices, grid, starts = self.menus
        when([page.model.change, page.start.change], *choices, **LIGHT)
        when([page.model.change, page.start.change], *grid, **LIGHT)
        when([page.model.change], *starts, **LIGHT)
        wire_uploads(page)
        page.start.input(
            self.suggest, [page.model, page.start, page.temperature],
            [page.action, page.temperature, page.is_wanted], **LIGHT, **LAST,
        )  # fmt: skip
        page.action.input(lambda: True, None, page.is_wanted, **LIGHT, **LAST)

    def _wire_api(self) -> None:
        runners = {"first": "1x1x1", "second": "1x1x16"}
        defaults = {**runners, **defaults_of(_INPUTS), "model": self.page.model.value}
        with gr.Row(visible=False):
            button, inputs = gr.Button(), inputs_of(defaults)
            outputs = [gr.File(label="first"), gr.File(label="second"), gr.JSON(label="figures")]
        button.click(
            call_of(self.compare, defaults), inputs, outputs,
            api_name="compare", **CALLS,
        )  # fmt: skip

    def begin(self, first: str, second: str, *values: Any) -> Updates:
        """Start: checks the settings, queues the race and makes the page follow it."""
        page = self.page
        with refusals():
            job = self._submit(first, second, values)
        return {
            page.seed: job.request.request.sampling.seed,
            page.result: gr.Column(visible=False),
            **page.follower.follow(job),
        }

    def compare(self, first: str, second: str, *values: Any) -> Iterator[Any]:
        """Runs one race to its end: the two clips' files, and all figures."""
        submit = partial(self._submit, first, second, values)
        stopped = "The race was stopped before it began."
        result: RaceResult = yield from finish(self.session.jobs, submit, 3, stopped)
        yield str(result.clips[0]), str(result.clips[1]), result.report

    def _submit(self, first: str, second: str, values: tuple[Any, ...]) -> Job:
        settings = dict(zip(_INPUTS, values, strict=True))
        runners = Runners.from_dict({"first": first, "second": second})
        request = make_request(**settings, block=first, num_frames=CLIP_FRAMES)
        shapes = parse_block_shape(runners.first), parse_block_shape(runners.second)
        race = run.new_race(self.session, request, shapes)
        return self.session.jobs.submit(partial(run.run, self.session, race), race)

    def _request_of_grid(self, second: str, *values: Any) -> Request:
        """The request whose settings all clips of a grid share: that of the challenger."""
        settings = dict(zip(_INPUTS, values, strict=True))
        return make_request(**settings, block=second, num_frames=CLIP_FRAMES)

    def come_back(
        self, model: str, job_id: str, seen: Seen, grid_id: str, is_open: bool
    ) -> Updates:
        """A page that was opened or reloaded finds its race, the settings of that race, and what
        varied in its grid.

        is_open: whether it shows this tab. Then its model is that of the race, else the settings
        are those that suit the page's model.
        """
        view = self.session.jobs.view(job_id)
        race = view.request if view is not None else None
        found = self.page.follower.poll(job_id, seen)
        start: Start = "action"
        if isinstance(race, PageRace) and self.session.loaded(race.request.model) is not None:
            model = race.request.model if is_open else model
            start = race.request.start
            found = {**self._settings_of(race, model), **found}
        return {**found, **self.grid.settings_of(grid_id, model, start)}

    def _settings_of(self, race: PageRace, model: str) -> Updates:
        page, values = self.page, {**values_of(race.request), "model": model}
        start, action = values["start"], values["action"]
        actions, kept = controls.action_menu(self.session, model, start, action)
        choices, (first, second) = self._pair(model, start, *map(format_block_shape, race.shapes))
        return {
            **{getattr(page, name): values[name] for name in _SETTINGS},
            page.start: start_radio(self.session, model, start),
            page.action: gr.Dropdown(choices=actions, value=kept),
            page.is_wanted: True,
            page.note: run.why_no_race(self.session, model),
            page.first: gr.Dropdown(choices=choices, value=first),
            page.second: gr.Dropdown(choices=choices, value=second),
        }

    def draw(self, job: JobView) -> Updates:
        """How far the race is; nothing is kept of half a race."""
        updates: Updates = {self.page.status: view.status(job)}
        return updates if job.result is None else updates | self._result(job.result)

    def _result(self, result: RaceResult) -> Updates:
        page = self.page
        files = (*result.clips, result.figures)
        if not all(path.is_file() for path in files):
            return {}  # made way for newer clips
        return {
            page.result: gr.Column(visible=True),
            page.headline: view.headline(result),
            page.replay: view.replay(result),
            page.measured: result.measured,
            page.figures: view.figures_table(result),
            page.tokens_plot: tokens_chart(result.race),
            page.steps_plot: steps_chart(result.race),
            **dict(zip(page.downloads, map(str, files), strict=True)),
        }

    def suggest(self, model: str, start: Start, temperature: float) -> tuple[str, float, bool]:
        """Action and temperature that suit the start, as on Generate; nobody has chosen them."""
        _, action = controls.action_menu(self.session, model, start)
        return action, controls.suited_temperature(start, temperature, "Paper"), False

    def change_choices(
        self, model: str, start: Start, action: str, is_wanted: bool, first: str, second: str
    ) -> tuple[Any, ...]:
        """Counts the steps anew and offers what the model can do; keeps what still fits."""
        choices, fitting = self._pair(model, start, first, second)
        chosen = controls.none_yet(start, action, is_wanted)
        actions, kept = controls.action_menu(self.session, model, start, chosen)
        return (
            run.why_no_race(self.session, model),
            controls.refitted(gr.Dropdown, choices, fitting[0], first),
            controls.refitted(gr.Dropdown, choices, fitting[1], second),
            controls.refitted(gr.Dropdown, actions, kept, action),
        )

    def _pair(
        self, model: str, start: Start, first: str, second: str
    ) -> tuple[list[tuple[str, str]], tuple[str, str]]:
        """(block shapes to choose from, baseline and challenger among them)."""
        steps = controls.count_steps(self.session, model, start, CLIP_FRAMES)
        choices = controls.block_choices(steps)
        return choices, usual_pair([value for _, value in choices], first, second)
