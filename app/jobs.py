"""One worker thread, a fair queue in front of it, and progress that outlives a page reload.

A job is a function that is handed its Job: it reports progress, asks for its turn before every step
and ends early after a stop. Knows nothing of models or of Gradio.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from statistics import median
from typing import Any

from app.turns import Turns
from nbp_core.media.files import is_full
from nbp_core.memory import is_memory_error

logger = logging.getLogger(__name__)

Work = Callable[["Job"], Any]

MAX_PAUSE_S = 60.0
"""How long a paused job may keep others waiting."""

NO_MEMORY = (
    "There is not enough memory for this run. Choose a smaller model, a shorter clip or the CPU."
)
NO_SPACE = "The studio's disk has no space left for what was made. Free some, then try again."
INTERNAL = "This run failed because of a fault in the studio. Its log has the details. Try again."


class JobState(StrEnum):
    """Where a job stands; the last three are final."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def is_final(self) -> bool:
        """Whether the job will change no more."""
        return self not in (JobState.WAITING, JobState.RUNNING)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobView:
    """The state of a job at one moment, for pages."""

    id: str
    state: JobState
    version: int
    """Grows with every change, so that a page asks for nothing it has already drawn."""
    ahead: int
    """Jobs that run or wait before this one; 0 once it runs."""
    wait_s: float | None
    """How long it is likely to wait, by the jobs before; None while that is not known."""
    request: Any
    note: str
    """What the job waits for before its first step, as a sentence; empty if nothing."""
    progress: Any
    result: Any
    error: str
    is_paused: bool
    is_earlier: bool
    """Whether an earlier session made the result."""


class Job:
    """One piece of work in the queue, and the switches that reach it from other threads."""

    def __init__(self, work: Work, request: Any) -> None:
        self.id = secrets.token_urlsafe(12)
        self.request = request
        self.work: Work | None = work
        """None once it has begun: it holds whole uploads, and a job keeps its outcome only."""
        self.kind = _kind(work)
        """The same for jobs that do the same with other values."""
        self.stop = threading.Event()
        self.finished = threading.Event()
        self.state = JobState.WAITING
        self.version = 0
        self.note = ""
        self.progress: Any = None
        self.result: Any = None
        self.error = ""
        self.is_earlier = False
        """Whether an earlier session made the result."""
        self.paused_s = 0.0
        """Seconds that the work has waited, at its user's wish or for players: none of its own."""
        self.is_awaited: Callable[[], bool] = lambda: False
        """Whether others wait for this job to end; its queue knows."""
        self.turns: Turns | None = None
        """Whom the work gives way to; its queue knows. None while they have their turns."""
        self._go = threading.Event()
        self._go.set()
        self._single = threading.Event()

    @property
    def is_paused(self) -> bool:
        """Whether the work waits, or will before its next step."""
        return not self._go.is_set()

    def tell(self, note: str) -> None:
        """What the work waits for before its first step, in a sentence."""
        self.note = note
        self.version += 1

    def report(self, progress: Any) -> None:
        """Replaces the progress that pages see; `progress` must never change afterwards."""
        self.progress = progress
        self.version += 1

    def pause(self) -> None:
        """Makes the work wait before its next step."""
        self._go.clear()
        self.version += 1

    def resume(self) -> None:
        """Resumes paused work."""
        self._go.set()
        self.version += 1

    def single_step(self) -> None:
        """Lets a paused job take one step."""
        self._single.set()

    def wait_turn(self) -> bool:
        """Called by the work before each step: waits while paused; False once it must stop.

        A pause that keeps others waiting ends after MAX_PAUSE_S. Meanwhile players have turns.
        """
        begun = time.monotonic()
        if self.is_paused:
            with nullcontext() if self.turns is None else self.turns.lent():
                self._wait_paused(begun)
        elif self.turns is not None:
            self.turns.give_way()
        self.paused_s += time.monotonic() - begun
        return not self.stop.is_set()

    @contextmanager
    def lending(self) -> Iterator[None]:
        """Lets players have their turns for the time of a block that is not timed."""
        turns, self.turns = self.turns, None
        try:
            with nullcontext() if turns is None else turns.lent():
                yield
        finally:
            self.turns = turns

    def _wait_paused(self, begun: float) -> None:
        while not self.stop.is_set() and not self._go.wait(0.05):
            if self._single.is_set():
                self._single.clear()
                break
            if time.monotonic() - begun > MAX_PAUSE_S and self.is_awaited():
                self.resume()

    def end(self, state: JobState, error: str = "") -> None:
        """Makes the job final and wakes whoever waits for it."""
        self.state, self.error = state, error
        self.work = None
        self.version += 1
        self.finished.set()


def _kind(work: Work) -> Any:
    """The code that a job runs. A function that is defined anew for each job has the same code."""
    function = work.func if isinstance(work, partial) else work
    return getattr(function, "__code__", function)


def explain(error: BaseException) -> str:
    """One sentence for the user. ValueErrors are already written for them."""
    if isinstance(error, ValueError):
        return str(error)
    if is_memory_error(error):
        return NO_MEMORY
    if is_full(error):
        return NO_SPACE
    return INTERNAL


class JobQueue:
    """Runs jobs one after the other, first come first served, in a thread of its own."""

    def __init__(self, max_waiting: int = 16, keep: int = 50, turns: Turns | None = None) -> None:
        """turns: shared by the worker and the players; a job holds them while it runs."""
        self._turns = turns or Turns()
        self._max_waiting = max_waiting
        self._keep = keep
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._took_s: dict[Any, deque[float]] = {}
        """Durations of the last jobs of each kind, in seconds."""
        self._began = 0.0
        """Start time of the running job."""
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def submit(self, work: Work, request: Any = None) -> Job:
        """Queues the work. Raises ValueError when too many jobs wait, or at the end."""
        with self._changed:
            if self._closed:
                raise ValueError("The studio is shutting down.")
            if len(self._waiting) >= self._max_waiting:
                raise ValueError(
                    f"The queue is full: {len(self._waiting)} runs are waiting. Try again soon."
                )
            job = Job(work, request)
            job.is_awaited = lambda: bool(self._waiting)
            job.turns = self._turns
            self._jobs[job.id] = job
            self._waiting.append(job)
            self._forget_oldest()
            self._changed.notify_all()
        return job

    def adopt(self, job_id: str, request: Any, result: Any, is_earlier: bool = True) -> None:
        """Knows a result that no job of its own has made: of an earlier session, or else a part of
        another job's."""
        with self._changed:
            job = Job(lambda job: None, request)
            job.id, job.result, job.is_earlier = job_id, result, is_earlier
            job.end(JobState.DONE)
            self._jobs[job_id] = job
            self._forget_oldest()

    def forget(self, job_id: str) -> None:
        """Forgets a job that is over."""
        with self._changed:
            job = self._jobs.get(job_id)
            if job is not None and job.state.is_final:
                del self._jobs[job_id]

    def get(self, job_id: str | None) -> Job | None:
        """The job itself; None for one that is unknown or long gone."""
        with self._changed:
            return self._jobs.get(job_id or "")

    def view(self, job_id: str | None) -> JobView | None:
        """The job as it stands now; None for a job that is unknown or long gone."""
        with self._changed:
            job = self._jobs.get(job_id or "")
            if job is None:
                return None
            before = self._before(job)
            wait_s = self._wait_s(before)
            return JobView(
                id=job.id,
                state=job.state,
                version=job.version - _standing(len(before), wait_s),
                ahead=len(before),
                wait_s=wait_s,
                request=job.request,
                note=job.note,
                progress=job.progress,
                result=job.result,
                error=job.error,
                is_paused=job.is_paused,
                is_earlier=job.is_earlier,
            )

    def _before(self, job: Job) -> list[Job]:
        """The jobs that end before a waiting one begins, the running one first."""
        if job not in self._waiting:
            return []
        running = [] if self._running is None else [self._running]
        return running + list(self._waiting)[: self._waiting.index(job)]

    def _wait_s(self, before: list[Job]) -> float | None:
        """Seconds until these jobs have ended, by the last ones of their kinds. None if a kind has
        not run yet, or if the running job is paused or takes longer than usual."""
        took_s = [self._took_s.get(job.kind) for job in before]
        usual_s = [median(some) for some in took_s if some]
        if not before or len(usual_s) < len(before):
            return None
        running = before[0]
        if running is not self._running:
            return sum(usual_s)
        done_s = self._worked_s(running)
        is_late = running.is_paused or done_s > usual_s[0]
        return None if is_late else sum(usual_s) - done_s

    def _worked_s(self, running: Job) -> float:
        """Seconds that the running job has taken until now, without its pauses."""
        return time.monotonic() - self._began - running.paused_s

    def finished(self) -> list[JobView]:
        """The jobs that left a result, the newest first."""
        with self._changed:
            ids = [job.id for job in self._jobs.values() if job.result is not None]
        views = (self.view(job_id) for job_id in reversed(ids))
        return [view for view in views if view is not None]

    def stop(self, job_id: str | None) -> None:
        """Ends a running job within one step; takes a waiting one out of the queue."""
        with self._changed:
            job = self._jobs.get(job_id or "")
            if job is None or job.state.is_final:
                return
            job.stop.set()
            if job in self._waiting:
                self._waiting.remove(job)
                job.end(JobState.STOPPED)

    @property
    def length(self) -> int:
        """Jobs running and waiting."""
        with self._changed:
            return len(self._waiting) + (self._running is not None)

    def close(self, timeout: float = 5.0) -> None:
        """Stops everything and waits for the worker to end."""
        with self._changed:
            self._closed = True
            for job in [*self._waiting, *filter(None, [self._running])]:
                job.stop.set()
            self._changed.notify_all()
        self._thread.join(timeout)

    def _forget_oldest(self) -> None:
        final = [job.id for job in self._jobs.values() if job.state.is_final]
        for job_id in final[: max(0, len(self._jobs) - self._keep)]:
            del self._jobs[job_id]

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    for waiting in self._waiting:
                        waiting.end(JobState.STOPPED)
                    return
                job = self._running = self._waiting.popleft()
                work, job.work = job.work, None
                self._began = time.monotonic()
                job.state = JobState.RUNNING
                job.version += 1
            assert work is not None, "only a final job has none"
            with self._turns.take():
                state, error, result = _outcome(work, job)
            del work
            with self._changed:
                self._running = None
                if state is JobState.DONE:
                    took_s = self._took_s.setdefault(job.kind, deque(maxlen=8))
                    took_s.append(self._worked_s(job))
                # At once: a page that sees the result may already ask for the next run.
                job.result = result
                job.end(state, error)


def _standing(ahead: int, wait_s: float | None) -> int:
    """A number that changes with a job's place in the queue and its expected wait, which change
    without the job; 0 for a job that does not wait."""
    return ahead * 100_000 + (0 if wait_s is None else round(wait_s) + 1)


def _outcome(work: Work, job: Job) -> tuple[JobState, str, Any]:
    """Runs the work: (final state, sentence for the user, result)."""
    try:
        result = work(job)
    except ValueError as error:
        state = JobState.STOPPED if job.stop.is_set() else JobState.FAILED
        return state, explain(error), None
    # Whatever one job does, the next one gets its turn; libraries in Rust panic with other kinds
    # of errors, and some call sys.exit.
    except BaseException as error:
        logger.exception("a job failed")
        return JobState.FAILED, explain(error), None
    return (JobState.STOPPED if job.stop.is_set() else JobState.DONE), "", result
