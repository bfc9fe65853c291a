"""How a page follows a job: it asks again and again, and is told what has changed.

Which job it is lies in the browser, so that a page that is reloaded finds its job again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from app.events import LIGHT, Updates, refusals
from app.jobs import Job, JobQueue

Seen = tuple[str, int]
"""Which state of which job a page shows: (job id, version)."""
NOTHING_SEEN: Seen = ("", 0)


class Follower:
    """Built among a page's components; start() tells it what the page shows of a job."""

    def __init__(self, jobs: JobQueue, name: str, interval: float) -> None:
        """`name` tells this page's job from those of others; `interval` is in seconds."""
        self.jobs = jobs
        self.job_id = gr.BrowserState("", storage_key=f"nbp-studio-{name}", secret="nbp-studio")
        self.seen = gr.State(NOTHING_SEEN)
        self.timer = gr.Timer(interval, active=False)

    def start(
        self,
        draw: Callable[..., Updates],
        shown: Sequence[Any],
        *,
        go: Sequence[gr.Button],
        halt: gr.Button | None = None,
        also: Sequence[Any] = (),
    ) -> None:
        """Wires the timer and Stop.

        draw(JobView, values of `also`) gives what changes among `shown`. The buttons `go` rest
        while the job is under way, `halt` otherwise.
        """
        self._draw = draw
        self._go = go
        self._halt = [halt] if halt else []
        self.shown = [self.timer, self.seen, *go, *self._halt, *shown]
        self.asked = [self.job_id, self.seen, *also]
        self.timer.tick(self.poll, self.asked, self.shown, **LIGHT)
        for button in self._halt:
            button.click(self.stop, self.job_id, button, **LIGHT)

    def find_again(self, blocks: gr.Blocks) -> None:
        """A page that was opened or reloaded finds its job."""
        blocks.load(self.poll, self.asked, self.shown, **LIGHT)

    def follow(self, job: Job, *also: Any) -> Updates:
        """Makes the page follow a job that was just queued."""
        told = self.poll(job.id, NOTHING_SEEN, *also)
        return {self.job_id: job.id, **told, self.timer: gr.Timer(active=True)}

    def poll(self, job_id: str, seen: Seen, *also: Any) -> Updates:
        """What has changed since the page was last told."""
        view = self.jobs.view(job_id)
        if view is None:
            return {self.timer: gr.Timer(active=False)}
        if tuple(seen) == (view.id, view.version):
            return {self.seen: seen}
        ended = view.state.is_final
        return {
            self.seen: (view.id, view.version),
            self.timer: gr.Timer(active=not ended),
            **{button: gr.Button(interactive=ended) for button in self._go},
            **{button: gr.Button(interactive=not ended) for button in self._halt},
            **self._draw(view, *also),
        }

    def stop(self, job_id: str) -> gr.Button:
        """Ends a running job within one step."""
        self.jobs.stop(job_id)
        return gr.Button(interactive=False)


def finish(submit: Callable[[], Job], stopped: str) -> Any:
    """Queues a job and waits for its result; `stopped` says why there is none."""
    with refusals():
        job = submit()
        job.finished.wait()
        if job.result is None:
            raise ValueError(job.error or stopped)
    return job.result
