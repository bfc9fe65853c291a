"""A grid of clips: what happens when its controls are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import gradio as gr
from gradio.components import Component

from app.clips.form import Start
from app.clips.request import Request
from app.compare.grid import run, view
from app.compare.grid.form import LEAST, Varied, Vary, cells_of
from app.compare.grid.page import VARIES, GridPage, block_names
from app.jobs import Job, JobView
from app.parts import controls
from app.parts.api import hand_over_values
from app.parts.events import LAST, LIGHT, OWN, Updates, refusals
from app.parts.follow import Follower
from app.session import Session


class Grid:
    """Wires the controls of a grid; the settings that all clips share are those of the race."""

    def __init__(
        self,
        session: Session,
        blocks: gr.Blocks,
        model: gr.Dropdown,
        follower: Follower,
        shared: Sequence[Component],
        request_of: Callable[..., Request],
    ) -> None:
        """`request_of` makes a request of the values of `shared`."""
        self.session = session
        self.follower = follower
        self.page = page = GridPage(session, model.value)
        self._request_of = request_of
        hand_over_values([page.vary, *page.values])
        page.vary.input(self.choose, page.vary, [*page.values], **LIGHT, **LAST)
        often, results = [page.status], [page.status, page.box, page.cells, page.measured]
        follower.start(
            self.draw, results, often=often, go=[page.go], halt=[page.halt],
            idle=lambda: {page.status: view.status(None)},
        )  # fmt: skip
        follower.find_again(blocks)
        page.go.click(
            self.begin, [page.vary, *page.values, *shared],
            [follower.job_id, *follower.shown], **OWN,
        )  # fmt: skip

    def choose(self, vary: Vary) -> Updates:
        """Shows the values of what varies, and no others."""
        names = [name for _, name in VARIES]
        return {
            part: type(part)(visible=name == vary)
            for name, part in zip(names, self.page.values, strict=True)
        }

    def offer(
        self, model: str, start: Start, chosen: Sequence[str], models: Sequence[str]
    ) -> Updates:
        """The blocks and models that suit the start; the blocks that were chosen stay chosen where
        they make a grid, else all are. Models that have gone are chosen no more."""
        blocks, value = self._fitting(model, start, chosen)
        names = self.session.model_names()
        there = [name for name in models if name in names]
        return {
            self.page.blocks: controls.refitted(gr.CheckboxGroup, blocks, value, list(chosen)),
            self.page.models: controls.refitted(gr.CheckboxGroup, names, there, list(models)),
        }

    def _fitting(
        self, model: str, start: Start, chosen: Sequence[str]
    ) -> tuple[list[tuple[str, str]], list[str]]:
        blocks = block_names(self.session, model, start)
        names = [name for _, name in blocks]
        kept = [name for name in names if name in chosen]
        return blocks, kept if len(kept) >= LEAST else names

    def settings_of(self, job_id: str, model: str, start: Start) -> Updates:
        """What varied in a grid, for a page that was loaded anew; nothing without one."""
        view, page = self.session.jobs.view(job_id), self.page
        if view is None or not isinstance(view.request, Varied):
            return {}
        varied, models = view.request, self.session.model_names()
        blocks, chosen = self._fitting(model, start, varied.blocks)
        values: list[dict[str, Any]] = [
            {"value": varied.num_seeds},
            {"choices": blocks, "value": chosen},
            {"value": varied.temperatures},
            {"choices": models, "value": [name for name in models if name in varied.models]},
        ]
        return {
            page.vary: varied.vary,
            **{
                part: type(part)(**found, visible=name == varied.vary)
                for (_, name), part, found in zip(VARIES, page.values, values, strict=True)
            },
        }

    def begin(
        self,
        vary: Vary,
        num_seeds: int,
        blocks: list[str],
        temperatures: str,
        models: list[str],
        *shared: Any,
    ) -> Updates:
        """Checks the settings, queues the grid and makes the page follow it."""
        varied = Varied(
            vary=vary,
            num_seeds=num_seeds,
            blocks=blocks,
            temperatures=temperatures,
            models=models,
        )
        with refusals():
            job = self._submit(varied, shared)
        page = self.page
        return {page.cells: {}, page.measured: "", **self.follower.follow(job)}

    def _submit(self, varied: Varied, shared: Sequence[Any]) -> Job:
        request = self._request_of(*shared)
        cells = cells_of(self.session, varied, request)
        return self.session.jobs.submit(partial(run.run, self.session, cells), varied)

    def draw(self, job: JobView) -> Updates:
        """How the grid stands. The box opens, since it may be that of a page loaded anew."""
        page = self.page
        updates: Updates = {page.status: view.status(job), page.box: gr.Accordion(open=True)}
        if job.result is None:
            return updates
        return updates | {
            page.cells: view.shown(job.result),
            page.measured: view.measured(job.result),
        }
