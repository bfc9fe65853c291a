"""How fast each block shape is here and now: a few real steps of each. Knows nothing of Gradio."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.clips.words import device_words, weights_words
from app.jobs import Job
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import CLIP_SIDE, Size3, format_block_shape

if TYPE_CHECKING:
    from app.session import Session
    from nbp_core.generation.pipeline import VideoPipeline

TIMED_STEPS = 24
_MIN_STEPS = 6
_GREY_FRAMES = np.full((5, CLIP_SIDE, CLIP_SIDE, 3), 127, np.uint8)


@dataclass(frozen=True, kw_only=True, slots=True)
class ShapeSpeed:
    """One block shape, timed."""

    shape: Size3
    timed_steps: int
    step_ms: float
    """Median, sampling included, tokenizer not."""

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second at the median step."""
        return 1e3 * math.prod(self.shape) / self.step_ms


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockSpeeds:
    """All block shapes of a model, and the line that says what was measured."""

    speeds: tuple[ShapeSpeed, ...]
    measured: str


def run(session: Session, model: str, job: Job) -> BlockSpeeds:
    """Times every block shape of a model. Raises ValueError when stopped before the end."""
    with job.lending():
        pipeline = session.pipeline(model)
    total = len(pipeline.block_shapes)
    speeds = []
    for done, shape in enumerate(pipeline.block_shapes):
        text = f"Timing {format_block_shape(shape)}, {done + 1} of {total}."
        job.report((done / total, text))
        speeds.append(_time(pipeline, shape, job))
    return BlockSpeeds(speeds=tuple(speeds), measured=_measured(pipeline))


def _time(pipeline: VideoPipeline, shape: Size3, job: Job) -> ShapeSpeed:
    """The first run warms up; runs are repeated until enough steps are timed."""
    _steps(pipeline, shape, job)
    seconds: list[float] = []
    while len(seconds) < _MIN_STEPS:
        seconds += _steps(pipeline, shape, job)
    return ShapeSpeed(
        shape=shape, timed_steps=len(seconds), step_ms=1e3 * statistics.median(seconds)
    )


def _steps(pipeline: VideoPipeline, shape: Size3, job: Job) -> list[float]:
    """Seconds of the steps after the prefill, at most TIMED_STEPS."""
    seconds = []
    with pipeline.stream(
        frames_THWC=_GREY_FRAMES, sampling=SamplingConfig(block_shape=shape), stop=job.stop
    ) as run:
        for step in run:
            if step.index:
                seconds.append(step.step_s)
            if len(seconds) == TIMED_STEPS:
                break
    if job.stop.is_set():
        raise ValueError("Stopped before every block shape was timed, so there is no result.")
    return seconds


def _measured(pipeline: VideoPipeline) -> str:
    names = ", ".join(map(format_block_shape, pipeline.block_shapes))
    return (
        f"Measured here: the median of up to {TIMED_STEPS} steps after five given grey frames,"
        f" sampling included, tokenizer not, after an untimed run; blocks {names}; on"
        f" {device_words(pipeline)}, with {weights_words(pipeline)}."
    )
