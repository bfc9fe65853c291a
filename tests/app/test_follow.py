"""A page that follows a job: little while it runs, everything when its stage changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest

from app.jobs import Job, JobQueue, JobView
from app.parts.events import Updates
from app.parts.follow import NOTHING_SEEN, Follower


class Page:
    """A page of two lines: one changes with every step, one is drawn in full."""

    def __init__(self, jobs: JobQueue) -> None:
        with gr.Blocks():
            self.go, self.halt, self.line, self.whole = (
                gr.Button(), gr.Button(), gr.HTML(), gr.HTML()
            )  # fmt: skip
            self.follower = Follower(jobs, "test", 0.25)
            self.follower.start(
                self.draw, [self.line, self.whole], often=[self.line], go=[self.go],
                halt=[self.halt], idle=lambda: {self.line: "Ready."},
            )  # fmt: skip

    def draw(self, view: JobView) -> Updates:
        return {self.line: view.progress, self.whole: str(view.state)}


class Script:
    """A job that does as it is told."""

    def __init__(self) -> None:
        self.orders: list[Any] = []
        self.ordered = threading.Condition()
        self.done = threading.Semaphore(0)

    def __call__(self, job: Job) -> str:
        while True:
            with self.ordered:
                self.ordered.wait_for(lambda: self.orders)
                order = self.orders.pop(0)
            if order is None:
                return "made"
            job.report(order)
            self.done.release()

    def tell(self, order: Any) -> None:
        with self.ordered:
            self.orders.append(order)
            self.ordered.notify_all()
        if order is not None:
            self.done.acquire()


@pytest.fixture
def jobs() -> Iterator[JobQueue]:
    queue = JobQueue()
    yield queue
    queue.close()


def test_a_running_job_changes_only_what_shows_its_progress(jobs: JobQueue) -> None:
    page, script = Page(jobs), Script()
    follower = page.follower
    job = jobs.submit(script)
    script.tell("step 1")
    told = follower.poll(job.id, NOTHING_SEEN)
    assert told[page.line] == "step 1"
    assert told[page.whole] == "running"
    seen, stage = told[follower.seen], told[follower.stage]
    assert follower.glance(job.id, seen, stage) == {follower.seen: seen}, "nothing is sent twice"
    script.tell("step 2")
    told = follower.glance(job.id, seen, stage)
    assert set(told) == {follower.seen, page.line}
    assert told[page.line] == "step 2"
    script.tell(None)
    job.finished.wait()
    told = follower.glance(job.id, told[follower.seen], stage)
    assert set(told) == {follower.catch_up}, "the end is not shown before what came of it"
    assert told[follower.catch_up].active
    told = follower.poll(job.id, seen)
    assert told[page.whole] == "done"
    assert told[page.go].interactive
    assert not told[follower.catch_up].active
    told = follower.glance(job.id, told[follower.seen], told[follower.stage])
    assert told[page.line] == "step 2", "a glance before the end may have come after it"
    assert not told[follower.timer].active


def test_a_job_that_ends_at_once_is_not_asked_after_for_ever(jobs: JobQueue) -> None:
    follower = Page(jobs).follower
    job = jobs.submit(lambda job: "made")
    assert job.finished.wait(30)
    told = follower.follow(job)
    told = follower.glance(job.id, told[follower.seen], told[follower.stage])
    assert not told[follower.timer].active


def test_a_pause_is_caught_up_with_and_progress_shown_at_once(jobs: JobQueue) -> None:
    page, script = Page(jobs), Script()
    follower = page.follower
    job = jobs.submit(script)
    script.tell("step 1")
    told = follower.poll(job.id, NOTHING_SEEN)
    job.pause()
    paused = follower.glance(job.id, told[follower.seen], told[follower.stage])
    assert set(paused) == {follower.catch_up, page.line}
    caught_up = follower.poll(job.id, told[follower.seen])
    assert caught_up[follower.stage] != told[follower.stage]
    assert not caught_up[follower.catch_up].active
    script.tell(None)


def test_a_job_that_is_gone_is_followed_no_more(jobs: JobQueue) -> None:
    follower = Page(jobs).follower
    assert follower.glance("gone", NOTHING_SEEN, "")[follower.catch_up].active
    told = follower.poll("gone", ("gone", 3))
    assert not told[follower.timer].active
    assert not told[follower.catch_up].active


@pytest.mark.parametrize("job_id", ["", "gone"])
def test_a_late_answer_to_the_opening_of_a_page_stops_no_timer(jobs: JobQueue, job_id: str) -> None:
    """A visitor may press Generate before that answer has come."""
    follower = Page(jobs).follower
    opened = follower.poll(job_id, NOTHING_SEEN)
    assert set(opened) == {follower.catch_up}
    assert not opened[follower.catch_up].active


def test_a_page_whose_job_is_forgotten_rests(jobs: JobQueue) -> None:
    """Another page may delete a clip before this one has heard of its end."""
    page, script = Page(jobs), Script()
    follower = page.follower
    job = jobs.submit(script)
    script.tell("step 1")
    seen = follower.poll(job.id, NOTHING_SEEN)[follower.seen]
    script.tell(None)
    assert job.finished.wait(30)
    jobs.forget(job.id)
    told = follower.poll(job.id, seen)
    assert told[page.line] == "Ready."
    assert told[page.go].constructor_args["interactive"]
    assert not told[page.halt].constructor_args["interactive"]
    assert told[follower.seen] == NOTHING_SEEN
    assert not told[follower.timer].active
    again = follower.poll(job.id, NOTHING_SEEN)
    assert set(again) == {follower.catch_up}, "a loaded page is as it was built"
