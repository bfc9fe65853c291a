"""How a page follows a job: it polls, and the answer is what has changed.

Which job it is lies in the browser, so that a page that is reloaded finds its job again. A browser
spends time on every component that an answer may change, so while a job runs the answers are about
the few that show its progress; all of them are drawn when it begins, pauses, resumes or ends.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from app.jobs import Job, JobQueue, JobView
from app.parts.audience import PATIENCE_S, Audience
from app.parts.events import LIGHT, Updates, refusals

NOBODY = f"This run was ended: for {PATIENCE_S:.0f} seconds nobody read its answers."
Seen = tuple[str, int]
"""Which state of which job a page shows: (job id, version)."""
NOTHING_SEEN: Seen = ("", 0)
SOON = 0.02
"""Seconds."""
LISTEN_S = 0.5
"""Seconds between two looks at whether the caller of the API is still there."""


@dataclass(slots=True)
class Begun:
    """The job that a page began last. All of its events have this same object, so that one that is
    under way sees it change."""

    job_id: str = ""
    is_beginning: bool = False
    """Whether one is just being begun."""


class Follower:
    """Built among a page's components; start() tells it what the page shows of a job."""

    def __init__(self, jobs: JobQueue, name: str, interval: float) -> None:
        """`name` tells this page's job from those of others; `interval` is in seconds."""
        self.jobs = jobs
        self.job_id = gr.BrowserState("", storage_key=f"nbp-studio-{name}", secret="nbp-studio")
        self.seen = gr.State(NOTHING_SEEN)
        self.stage = gr.State("")
        """What the page shows in full: which job, and whether it waits, runs, pauses or is over."""
        self.timer = gr.Timer(interval, active=False)
        self.catch_up = gr.Timer(SOON, active=False)
        """Runs from the moment the page receives a new stage until it shows it."""

    def start(
        self,
        draw: Callable[..., Updates],
        shown: Sequence[Any],
        *,
        often: Sequence[Any],
        go: Sequence[gr.Button],
        halt: Sequence[gr.Button] = (),
        also: Sequence[Any] = (),
        idle: Callable[[], Updates] = dict,
    ) -> None:
        """Wires the timer and every Stop.

        draw(JobView, values of `also`) gives what changes among `shown`; `often` are those of them
        that change with every step. The buttons `go` are disabled while the job is under way, the
        buttons `halt` otherwise. `idle` gives what the page shows without a job: the studio forgets
        one that another page deleted, and old ones.
        """
        self._idle = idle
        self._draw = draw
        self._often = often
        self._go = go
        self._halt = halt
        self.shown = [
            self.timer, self.catch_up, self.seen, self.stage, *go, *self._halt, *shown
        ]  # fmt: skip
        self.asked = [self.job_id, self.seen, *also]
        asked = [self.job_id, self.seen, self.stage, *also]
        glanced = [self.timer, self.catch_up, self.seen, *often]
        self.timer.tick(self.glance, asked, glanced, **LIGHT)
        self.catch_up.tick(self.poll, self.asked, self.shown, **LIGHT)
        for button in self._halt:
            button.click(self.stop, self.job_id, button, **LIGHT)

    def find_again(self, blocks: gr.Blocks) -> None:
        """A page that was opened or reloaded finds its job."""
        blocks.load(self.poll, self.asked, self.shown, **LIGHT)

    def follow(self, job: Job, *also: Any) -> Updates:
        """Makes the page follow a job that was just queued."""
        return {self.job_id: job.id, **self.poll(job.id, NOTHING_SEEN, *also)}

    def glance(self, job_id: str, seen: Seen, stage: str, *also: Any) -> Updates:
        """The progress, if there is any; at a new stage the page asks for all the rest.

        After the end the page glances once more: an earlier glance may have come after the end.
        """
        view = self.jobs.view(job_id)
        if view is None or (_stage(view) != stage and view.state.is_final):
            # The end is shown with what came of it, at once.
            return {self.catch_up: gr.Timer(active=True)}
        if _stage(view) != stage:
            mark: Updates = {self.catch_up: gr.Timer(active=True)}
        elif view.state.is_final:
            mark = {self.timer: gr.Timer(active=False)}
        elif tuple(seen) == (view.id, view.version):
            return {self.seen: seen}
        else:
            mark = {self.seen: (view.id, view.version)}
        drawn = self._draw(view, *also)
        return mark | {part: drawn[part] for part in self._often if part in drawn}

    def poll(self, job_id: str, seen: Seen, *also: Any) -> Updates:
        """Everything that has changed since the last poll."""
        view = self.jobs.view(job_id)
        if view is None:
            caught_up = {self.catch_up: gr.Timer(active=False)}
            # Not the timer of a page that shows no job: this may be the late answer to its opening,
            # and a job may have begun meanwhile.
            return caught_up | self._rest() if seen[0] else caught_up
        if tuple(seen) == (view.id, view.version):
            return {self.seen: seen, self.catch_up: gr.Timer(active=False)}
        return {
            self.seen: (view.id, view.version),
            self.stage: _stage(view),
            self.timer: gr.Timer(active=True),
            self.catch_up: gr.Timer(active=False),
            **self._buttons(view.state.is_final),
            **self._draw(view, *also),
        }

    def _rest(self) -> Updates:
        """What the page shows once the job that it followed is forgotten."""
        return {
            self.timer: gr.Timer(active=False),
            self.seen: NOTHING_SEEN,
            self.stage: "",
            **self._buttons(True),
            **self._idle(),
        }

    def _buttons(self, has_ended: bool) -> Updates:
        return {
            **{button: gr.Button(interactive=has_ended) for button in self._go},
            **{button: gr.Button(interactive=not has_ended) for button in self._halt},
        }

    def stop(self, job_id: str) -> gr.Button:
        """Ends a running job within one step."""
        self.jobs.stop(job_id)
        return gr.Button(interactive=False)


def _stage(view: JobView) -> str:
    return f"{view.id} {view.state}{' paused' if view.is_paused else ''}"


def finish(
    jobs: JobQueue, submit: Callable[[], Job], num_outputs: int, stopped: str
) -> Generator[Any, None, Any]:
    """Queues a job for a caller of the API, waits for its end and returns its result.

    `stopped` says why there is none. Yields empty outputs while it waits, since that is when Gradio
    ends a call whose caller has cancelled or gone: then the job ends too, and nobody waits for it.
    It also ends where the caller never came for the answers.
    """
    nothing = (None,) * num_outputs
    audience = Audience()
    yield nothing
    with refusals():
        job = submit()
    try:
        while not job.finished.wait(LISTEN_S):
            if audience.has_left():
                stopped = NOBODY
                break
            yield nothing
    finally:
        jobs.stop(job.id)
    with refusals():
        if job.result is None:
            raise ValueError(job.error or stopped)
    return job.result
