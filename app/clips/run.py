"""One run of Generate: a request -> live progress -> files. Knows nothing of Gradio."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from app.clips.exports import Files, write_files
from app.clips.kept import keep
from app.clips.progress import GIVEN, NO_TOKEN, Making, Progress, video_grid
from app.clips.request import Request, file_stem
from app.clips.words import device_words, plural
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
    num_tokens: int
    new_frames: int
    num_frames: int
    is_complete: bool
    measured: str
    last: Progress
    """The final state of the live view."""
    making: Making


def run(session: Session, request: Request, job: Job) -> Outcome:
    """Makes the clip in the worker thread. Raises ValueError when nothing came of it."""
    pipeline = session.pipeline(request.model)
    tokens = np.full(video_grid(pipeline.grid, request.num_frames), NO_TOKEN, dtype=np.int64)
    shape = request.sampling.block_shape or pipeline.block_shapes[0]
    step_thw = np.full(tokens.shape, GIVEN, dtype=np.int32)
    phases: list[str] = []
    step_s: list[float] = []
    frame_s: list[float] = []
    num_tokens = num_frames = 0
    frame_HWC = None if request.frames_THWC is None else request.frames_THWC[-1]
    progress: Progress | None = None
    with pipeline.start(request, stop=job.stop) as run:
        if not run.is_ready:
            job.tell(COMPILING)
            run.wait_until_ready()
        begun = time.perf_counter()
        for step in run:
            phases.append(step.phase)
            tokens.flat[step.places] = step.tokens
            step_thw.flat[step.places] = step.index
            step_s.append(step.elapsed - job.paused_s)
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
                num_context_frames=request.num_context_frames,
                num_frames=num_frames,
                total_frames=request.num_frames,
                cache_bytes=step.cache_bytes,
            )
            job.report(progress)
            if not job.wait_turn():
                break
    generation = run.generation()
    seconds = time.perf_counter() - begun - job.paused_s
    if progress is None or not len(generation.frames_THWC):
        raise ValueError("Stopped before the first frame was finished, so there is no clip.")
    if generation.is_complete:
        # The stream leaves out the tokens of the context.
        progress = replace(progress, tokens_thw=generation.tokens_thw)
    making = Making(
        tokens_thw=generation.tokens_thw,
        step_thw=step_thw[: len(generation.tokens_thw)],
        step_s=tuple(step_s),
        frame_s=tuple(frame_s),
        codebook_size=pipeline.codebook_size,
        side=generation.frames_THWC.shape[1],
    )
    outcome = _write(
        session, request, pipeline, job, generation, progress, making, tuple(phases), seconds
    )
    keep(session, job.id, request, outcome)
    return outcome


def _write(
    session: Session,
    request: Request,
    pipeline: VideoPipeline,
    job: Job,
    generation: Generation,
    last: Progress,
    making: Making,
    phases: tuple[str, ...],
    seconds: float,
) -> Outcome:
    files = write_files(session.new_output(job.id), file_stem(request), generation, making)
    frames_THWC = generation.frames_THWC
    new_frames = len(frames_THWC) - request.num_context_frames
    return Outcome(
        **asdict(files),
        manifest=generation.manifest,
        timings=generation.timings,
        phases=phases,
        seconds=seconds,
        num_tokens=last.num_tokens,
        new_frames=new_frames,
        num_frames=len(frames_THWC),
        is_complete=generation.is_complete,
        measured=_measured(pipeline, generation, seconds, new_frames),
        last=last,
        making=making,
    )


def _measured(
    pipeline: VideoPipeline, generation: Generation, seconds: float, new_frames: int
) -> str:
    """The line that says what was measured, on what and with which weights."""
    fingerprint = str(generation.manifest.get("sha256", ""))[:8]
    weights = f"weights {pipeline.name}" + (f" ({fingerprint})" if fingerprint else "")
    return (
        f"Measured here: {plural(generation.steps, 'step')} and {plural(new_frames, 'new frame')}"
        f" in {seconds:.2f} s, tokenizing and detokenizing included, on {device_words(pipeline)},"
        f" with {weights} and tokenizer {pipeline.tokenizer_name}."
    )
