"""One run of Generate: a request -> live progress -> files. Knows nothing of Gradio."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from app.clips.exports import Files, write_files
from app.clips.kept import keep
from app.clips.progress import GIVEN, NO_TOKEN, Making, Progress, video_grid
from app.clips.request import Request, file_stem
from app.clips.words import device_words, plural, weights_words
from app.jobs import Job

if TYPE_CHECKING:
    from app.session import Session
    from nbp_core.generation.pipeline import VideoPipeline
    from nbp_core.generation.records import Generation, Timings

COMPILING = (
    "Compiling the engine for this machine's processor, which takes about ten seconds. Only the"
    " first run waits for this."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome(Files):
    """The files of a finished or stopped run, and what was measured."""

    manifest: dict[str, Any]
    timings: Timings
    phases: tuple[str, ...]
    seconds: float
    new_frames: int
    num_frames: int
    is_complete: bool
    measured: str
    last: Progress
    """The final state of the live view."""
    making: Making
    num_together: int = 1
    """Clips of the batch that it was made in, which took `seconds` together."""
    not_kept: str = ""
    """Why the clip is not in the gallery; empty if it is."""


def run(session: Session, request: Request, job: Job) -> Outcome:
    """Makes the clip in the worker thread. Raises ValueError when nothing came of it."""
    made = make_clips(session, [request], job, job.report)
    if made.is_empty:
        raise ValueError("Stopped before the first frame was finished, so there is no clip.")
    return made.keep(0, job.id)


def make_clips(
    session: Session, requests: Sequence[Request], job: Job, report: Callable[[Progress], object]
) -> Clips:
    """Makes the clips of one batch; `report` receives the progress of the first after each step."""
    first = requests[0]
    with job.lending():
        pipeline = session.pipeline(first.model)
    tokens = np.full(video_grid(pipeline.grid, first.num_frames), NO_TOKEN, dtype=np.int64)
    shape = first.sampling.block_shape or pipeline.block_shapes[0]
    step_thw = np.full(tokens.shape, GIVEN, dtype=np.int32)
    phases: list[str] = []
    step_s: list[float] = []
    frame_s: list[float] = []
    num_tokens = num_frames = 0
    frame_HWC = None if first.frames_THWC is None else first.frames_THWC[-1]
    progress: Progress | None = None
    paused_before_s = job.paused_s  # a grid makes several batches in one job
    with pipeline.start(*requests, stop=job.stop) as run:
        if not run.is_ready:
            job.tell(COMPILING)
            run.wait_until_ready()
        begun = time.perf_counter()
        for step in run:
            phases.append(step.phase)
            tokens.flat[step.places] = step.tokens
            step_thw.flat[step.places] = step.index
            step_s.append(step.elapsed - (job.paused_s - paused_before_s))
            num_tokens += len(step.tokens)
            if step.new_frames is not None and len(step.new_frames):
                num_frames += len(step.new_frames)
                frame_s += [step_s[-1]] * len(step.new_frames)
                frame_HWC = step.new_frames[-1]
            progress = Progress(
                step=step.index + 1,
                num_steps=step.num_steps,
                phase=step.phase,
                elapsed=step_s[-1],
                num_tokens=num_tokens,
                tokens_thw=tokens.copy(),
                newest=step.places,
                block_shape=shape,
                frame_HWC=frame_HWC,
                num_context_frames=first.num_context_frames,
                num_frames=num_frames,
                total_frames=first.num_frames,
                cache_bytes=step.cache_bytes,
            )
            report(progress)
            if not job.wait_turn():
                break
    return Clips(
        session=session,
        pipeline=pipeline,
        requests=tuple(requests),
        generations=tuple(run.generation(index) for index in range(len(requests))),
        last=progress,
        step_thw=step_thw,
        phases=tuple(phases),
        step_s=tuple(step_s),
        frame_s=tuple(frame_s),
        seconds=time.perf_counter() - begun - (job.paused_s - paused_before_s),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Clips:
    """The clips of one batch, whole or as far as they came, and the times of their making."""

    session: Session
    pipeline: VideoPipeline
    requests: tuple[Request, ...]
    generations: tuple[Generation, ...]
    last: Progress | None
    """The last state of the first clip; None if no step was taken."""
    step_thw: npt.NDArray[np.int32]
    phases: tuple[str, ...]
    step_s: tuple[float, ...]
    frame_s: tuple[float, ...]
    seconds: float
    """Seconds of all clips together, without pauses."""

    @property
    def is_empty(self) -> bool:
        """Whether not even the first frame was finished."""
        return self.last is None or not len(self.generations[0].frames_THWC)

    @property
    def is_complete(self) -> bool:
        return all(generation.is_complete for generation in self.generations)

    def keep(self, index: int, clip_id: str) -> Outcome:
        """Writes the files of one clip, also into the library. The clips must not be empty."""
        return self.session.write_output(clip_id, partial(self._write, index, clip_id))

    def _write(self, index: int, clip_id: str, folder: Path) -> Outcome:
        request, generation = self.requests[index], self.generations[index]
        making = self._making(generation)
        files = write_files(folder, file_stem(request), generation, making)
        new_frames = len(generation.frames_THWC) - request.num_context_frames
        outcome = Outcome(
            **asdict(files),
            manifest=generation.manifest,
            timings=generation.timings,
            phases=self.phases,
            seconds=self.seconds,
            new_frames=new_frames,
            num_frames=len(generation.frames_THWC),
            is_complete=generation.is_complete,
            measured=self._measured(generation, new_frames),
            last=self._last(index),
            making=making,
            num_together=len(self.requests),
        )
        return replace(outcome, not_kept=keep(self.session, clip_id, request, outcome))

    def _making(self, generation: Generation) -> Making:
        return Making(
            tokens_thw=generation.tokens_thw,
            step_thw=self.step_thw[: len(generation.tokens_thw)],
            step_s=self.step_s,
            frame_s=self.frame_s,
            codebook_size=self.pipeline.codebook_size,
            side=generation.frames_THWC.shape[1],
        )

    def _last(self, index: int) -> Progress:
        """The last state of a clip. A stream has neither the context's tokens nor other clips'."""
        assert self.last is not None
        generation = self.generations[index]
        if not generation.is_complete:
            return self.last
        return replace(
            self.last,
            tokens_thw=generation.tokens_thw,
            frame_HWC=generation.frames_THWC[-1],
        )

    def _measured(self, generation: Generation, new_frames: int) -> str:
        """The line that says what was measured, on what and with which weights."""
        others = len(self.requests) - 1
        batch = f", in one batch with {plural(others, 'other clip')}" if others else ""
        return (
            f"Measured here: {plural(generation.steps, 'step')} and"
            f" {plural(new_frames, 'new frame')} in {self.seconds:.2f} s{batch}, tokenizing and"
            f" detokenizing included, on {device_words(self.pipeline)}, with"
            f" {weights_words(self.pipeline)}."
        )
