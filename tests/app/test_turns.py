"""Who has the engine when: in the order of asking, and between the steps of who has long work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from app.attention.opened import Views
from app.clips import odds
from app.clips import run as clip
from app.compare import run as compare
from app.how import measure
from app.jobs import Job, JobQueue
from app.play import saved
from app.tokenizer import round_trip
from app.turns import Turns


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_turns_come_in_the_order_of_asking() -> None:
    turns, order = Turns(), []

    def ask(name: int) -> None:
        with turns.take():
            order.append(name)

    with turns.take():
        threads = [threading.Thread(target=ask, args=(name,)) for name in range(5)]
        for count, thread in enumerate(threads, 1):
            thread.start()
            until(lambda count=count: turns.num_waiting == count)  # type: ignore[misc]
        assert order == []
    for thread in threads:
        thread.join()
    assert order == list(range(5))
    assert turns.num_waiting == 0


def test_a_job_lets_players_have_a_turn_between_its_steps() -> None:
    turns = Turns()
    queue, steps, seen = JobQueue(turns=turns), [], []

    def work(job: Job) -> None:
        while job.wait_turn():
            steps.append(1)
            time.sleep(0.02)

    job = queue.submit(work)
    until(lambda: len(steps) > 2)
    for _ in range(3):
        with turns.take():
            seen.append(len(steps))
            time.sleep(0.05)
            assert len(steps) == seen[-1], "the job waits meanwhile"
    assert seen[0] < seen[1] < seen[2], "and has a turn in between"
    assert job.paused_s > 0.1
    job.stop.set()
    assert job.finished.wait(10)
    queue.close()


def test_a_paused_job_keeps_no_player_waiting() -> None:
    turns = Turns()
    queue, steps = JobQueue(turns=turns), []

    def work(job: Job) -> None:
        while job.wait_turn():
            steps.append(1)
            time.sleep(0.001)

    job = queue.submit(work)
    until(lambda: bool(steps))
    job.pause()
    begun = time.monotonic()
    for _ in range(20):
        with turns.take():
            pass
    assert time.monotonic() - begun < 1
    job.resume()
    done = len(steps)
    until(lambda: len(steps) > done + 1)
    job.stop.set()
    assert job.finished.wait(10)
    queue.close()


def test_a_job_that_reads_a_disk_has_its_turn_again_afterwards() -> None:
    turns = Turns()
    queue, reads, goes_on = JobQueue(turns=turns), threading.Event(), threading.Event()
    after: list[int] = []

    def work(job: Job) -> None:
        with job.lending():
            reads.set()
            while not goes_on.wait(0.001):
                job.wait_turn()
        after.append(turns.num_waiting)
        assert job.turns is turns

    job = queue.submit(work)
    assert reads.wait(10)
    for _ in range(3):
        with turns.take():
            time.sleep(0.06)  # longer than a slice, after which a job that has its turn gives way
    with turns.take():
        goes_on.set()
        until(lambda: turns.num_waiting == 1)
        assert not after
    assert job.finished.wait(10)
    assert (job.error, after) == ("", [0])
    queue.close()


class SeenError(Exception):
    """The model was asked for, and nothing is made of it."""


@pytest.mark.parametrize("name", ["clip", "play", "race", "speeds", "round trip", "odds", "maps"])
def test_players_have_turns_while_a_job_loads_its_model(name: str) -> None:
    job, turns = Job(lambda job: None, None), Turns()
    job.turns = turns

    def pipeline(name: str) -> None:
        assert job.turns is None, "it is lent"
        raise SeenError

    session: Any = SimpleNamespace(pipeline=pipeline, loaded=lambda name: None, model_called=str)
    named: Any = SimpleNamespace(model="tiny")
    raced: Any = SimpleNamespace(request=named)
    works: dict[str, Callable[[], object]] = {
        "clip": lambda: clip.run(session, named, job),
        "play": lambda: saved.run(session, "tiny", named, job),
        "race": lambda: compare.run(session, raced, job),
        "speeds": lambda: measure.run(session, "tiny", job),
        "round trip": lambda: round_trip.run(session, named, job),
        "odds": lambda: odds._compute(session, named, {"model": "tiny"}, job),
        "maps": lambda: Views(session)._work(named, None, ("", "", None, None), job),
    }
    with turns.take(), pytest.raises(SeenError):
        works[name]()


def test_a_job_without_steps_is_not_disturbed() -> None:
    turns = Turns()
    queue, began = JobQueue(turns=turns), threading.Event()
    ended: list[float] = []

    def work(job: Job) -> None:
        began.set()
        time.sleep(0.2)
        ended.append(time.monotonic())

    queue.submit(work)
    assert began.wait(10)
    with turns.take():
        assert ended
    queue.close()
