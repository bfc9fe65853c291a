"""The queue: fair, stoppable, and not to be killed by one bad job."""

from __future__ import annotations

import errno
import gc
import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest

from app.jobs import INTERNAL, NO_MEMORY, NO_SPACE, Job, JobQueue, JobState


@pytest.fixture
def queue() -> Iterator[JobQueue]:
    queue = JobQueue(max_waiting=3)
    yield queue
    queue.close()


def block_until(gate: threading.Event, job: Job) -> str:
    while not gate.wait(0.005):
        if job.stop.is_set():
            break
    return "made"


def note(order: list[int], number: int, job: Job) -> None:
    order.append(number)


def hold(queue: JobQueue, gate: threading.Event) -> Job:
    """A running job that ends when the gate opens or when it is stopped."""
    job = queue.submit(lambda job: block_until(gate, job))
    while job.state is JobState.WAITING:
        time.sleep(0.001)
    return job


def test_jobs_run_one_at_a_time_in_order(queue: JobQueue) -> None:
    gate, order = threading.Event(), list[int]()
    hold(queue, gate)
    jobs = [queue.submit(partial(note, order, n)) for n in range(3)]
    views = [queue.view(job.id) for job in jobs]
    assert [view.ahead for view in views if view] == [1, 2, 3]
    gate.set()
    assert all(job.finished.wait(30) for job in jobs)
    assert order == [0, 1, 2]


def test_version_grows_when_the_queue_moves(queue: JobQueue) -> None:
    gate = threading.Event()
    first = hold(queue, gate)
    second = queue.submit(lambda job: block_until(gate, job))
    third = queue.submit(lambda job: None)
    before = queue.view(third.id)
    queue.stop(second.id)
    after = queue.view(third.id)
    assert before is not None
    assert after is not None
    assert (before.ahead, after.ahead) == (2, 1)
    assert after.version > before.version
    queue.stop(first.id)
    assert third.finished.wait(30)
    final = queue.view(third.id)
    assert final is not None
    assert final.version > after.version


def test_stop_ends_a_running_job_and_keeps_its_result(queue: JobQueue) -> None:
    job = hold(queue, threading.Event())
    queue.stop(job.id)
    assert job.finished.wait(30)
    assert (job.state, job.result) == (JobState.STOPPED, "made")


def test_stop_takes_a_waiting_job_out(queue: JobQueue) -> None:
    gate = threading.Event()
    hold(queue, gate)
    ran = threading.Event()
    waiting = queue.submit(lambda job: ran.set())
    queue.stop(waiting.id)
    gate.set()
    assert queue.submit(lambda job: None).finished.wait(30)
    assert waiting.state is JobState.STOPPED
    assert not ran.is_set()


def holding(frames: object, job: Job, *, end: str) -> str:
    if end == "failed":
        raise ValueError("not these frames")
    if end == "crashed":
        raise RuntimeError("deep inside")
    return "made"


@pytest.mark.parametrize("end", ["done", "failed", "crashed", "stopped while waiting"])
def test_a_finished_job_keeps_nothing_of_its_uploads(
    queue: JobQueue, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.logger.disabled", True)  # pytest keeps the crash's call frames
    frames = np.zeros((5, 2160, 3840, 3), np.uint8)
    uploaded = weakref.ref(frames)
    work = partial(holding, frames, end=end)
    gate = threading.Event()
    first = hold(queue, gate)
    job = queue.submit(work)
    del frames, work
    if end == "stopped while waiting":
        queue.stop(job.id)
    gate.set()
    assert first.finished.wait(30)
    assert job.finished.wait(30)
    gc.collect()
    assert queue.get(job.id) is job
    assert uploaded() is None


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("top_p must be above 0"), "top_p must be above 0"),
        (MemoryError(), NO_MEMORY),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), NO_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"), NO_MEMORY),
        (RuntimeError("deep inside /home/somebody/secret.py"), INTERNAL),
        (SystemExit(2), INTERNAL),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/secret"), NO_SPACE),
        (type("PanicException", (BaseException,), {})("a library in Rust panicked"), INTERNAL),
    ],
)
def test_a_crash_shows_one_sentence_and_the_next_job_runs(
    queue: JobQueue, error: BaseException, sentence: str
) -> None:
    def crash(job: Job) -> None:
        raise error

    broken, sound = queue.submit(crash), queue.submit(lambda job: "fine")
    assert sound.finished.wait(30)
    assert (broken.state, broken.error) == (JobState.FAILED, sentence)
    assert sound.result == "fine"


def test_pause_and_single_step(queue: JobQueue) -> None:
    steps = list[int]()

    def work(job: Job) -> None:
        while job.wait_turn():
            steps.append(len(steps))

    job = Job(work, None)
    job.pause()
    thread = threading.Thread(target=work, args=[job])
    thread.start()
    time.sleep(0.15)
    assert steps == []
    job.single_step()
    time.sleep(0.15)
    assert steps == [0]
    job.stop.set()
    thread.join(2)
    assert not thread.is_alive()


def test_a_pause_does_not_hold_up_others_for_long(
    queue: JobQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.jobs.MAX_PAUSE_S", 0.2)

    def one_turn(job: Job) -> float:
        job.wait_turn()
        return job.paused_s

    gate = threading.Event()
    first = hold(queue, gate)
    paused = queue.submit(one_turn)
    paused.pause()
    queue.stop(first.id)
    assert not paused.finished.wait(0.6), "alone in the queue, it waits"
    view = queue.view(paused.id)
    assert view is not None
    assert view.is_paused
    assert queue.submit(lambda job: None).finished.wait(30)
    assert paused.result >= 0.2
    assert not paused.is_paused


def test_a_full_queue_refuses_in_one_sentence(queue: JobQueue) -> None:
    hold(queue, threading.Event())
    for _ in range(3):
        queue.submit(lambda job: None)
    with pytest.raises(ValueError, match="The queue is full: 3 runs are waiting"):
        queue.submit(lambda job: None)


def test_unknown_and_forgotten_jobs_are_none() -> None:
    queue = JobQueue(keep=2)
    jobs = []
    for _ in range(5):
        jobs.append(queue.submit(lambda job: None))
        assert jobs[-1].finished.wait(30)
    assert queue.view("nobody") is None
    assert queue.view(None) is None
    assert [queue.view(job.id) is None for job in jobs] == [True, True, True, False, False]
    queue.close()


def test_the_wait_is_expected_by_the_jobs_of_a_kind(queue: JobQueue) -> None:
    gate = threading.Event()

    def slow(job: Job) -> None:
        gate.wait(2)

    def other(job: Job) -> None:
        gate.wait(30)

    def wait_of(job: Job) -> float | None:
        view = queue.view(job.id)
        assert view is not None
        return view.wait_s

    assert queue.submit(slow).finished.wait(30)
    running = queue.submit(slow)
    while running.state is JobState.WAITING:
        time.sleep(0.01)
    jobs = [queue.submit(work) for work in (slow, other, slow)]
    near, far, behind_other = (wait_of(job) for job in jobs)
    assert near is not None
    assert far is not None
    assert 0 < near < far
    assert behind_other is None, "no job of that kind has finished yet"
    gate.set()
    assert jobs[-1].finished.wait(30)


def test_pauses_are_no_part_of_the_expected_wait(queue: JobQueue) -> None:
    def work(job: Job) -> None:
        job.wait_turn()
        time.sleep(1)

    def begin_paused() -> Job:
        first = hold(queue, threading.Event())
        job = queue.submit(work)
        job.pause()
        queue.stop(first.id)
        return job

    def wait_of(job: Job) -> float | None:
        view = queue.view(job.id)
        assert view is not None
        return view.wait_s

    usual = begin_paused()
    time.sleep(1)
    usual.resume()
    assert usual.finished.wait(30)
    running = begin_paused()
    behind = queue.submit(work)
    time.sleep(1.2)
    assert wait_of(behind) is None, "nobody knows how long the pause lasts"
    running.resume()
    while running.paused_s == 0:
        time.sleep(0.01)
    left_s = wait_of(behind)
    assert left_s is not None
    assert 0 < left_s < 1.5


def test_a_closed_queue_takes_no_work() -> None:
    queue = JobQueue()
    queue.close()
    with pytest.raises(ValueError, match="is shutting down"):
        queue.submit(lambda job: None)


def test_a_wait_that_was_exceeded_is_unknown(queue: JobQueue) -> None:
    """A page also hears of the expected wait, which changes without the job."""
    length = 0.0

    def work(job: Job) -> None:
        time.sleep(length)

    length = 1.2
    assert queue.submit(work).finished.wait(30)
    length = 3.0
    queue.submit(work)
    behind = queue.submit(work)
    seen = {}
    while (view := queue.view(behind.id)) is not None and view.state is JobState.WAITING:
        seen[view.version] = view.wait_s
        time.sleep(0.05)
    assert len(seen) > 1
    assert list(seen.values())[-1] is None
