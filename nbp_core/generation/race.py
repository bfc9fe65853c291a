"""A race of two block shapes: the same request with each, one after the other on one device.

Input: a pipeline and a request. Output: each runner's clip and the time of each of its steps. Both
have the same weights, start, seed and sampling. Each has an untimed warm-up before its run.
"""

from __future__ import annotations

import math
import statistics
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nbp_core.config.shapes import CLIP_SIDE, Size3, format_block_shape
from nbp_core.generation.records import Generation, Tokens
from nbp_core.generation.request import GenerateRequest
from nbp_core.media.files import Frames

if TYPE_CHECKING:
    from nbp_core.generation.pipeline import VideoPipeline

WARM_STEPS = 3
WARM_UP = (
    f"Before each runner, {WARM_STEPS} steps of its own block shape run untimed, and a whole latent"
    " frame is made and decoded."
)
_GREY = 127


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceRequest:
    """One request and the block shapes of its two runners. Raises ValueError for equal shapes."""

    shapes: tuple[Size3, Size3]
    request: GenerateRequest
    """Its block shape is replaced by that of each runner."""
    num_rounds: int = 1
    """How often both runners run, in alternation. It is odd, so that one round is the median."""

    def __post_init__(self) -> None:
        if self.num_rounds < 1 or self.num_rounds % 2 == 0:
            raise ValueError(f"the number of rounds must be odd, not {self.num_rounds}")
        if self.shapes[0] == self.shapes[1]:
            raise ValueError(
                f"both runners have the block shape {format_block_shape(self.shapes[0])}: "
                "choose two different ones"
            )

    def with_shape(self, shape: Size3) -> GenerateRequest:
        """The request of one runner."""
        return replace(self.request, sampling=replace(self.request.sampling, block_shape=shape))


@dataclass(frozen=True, kw_only=True, slots=True)
class Lap:
    """The state of a race after a step, for progress reports."""

    runner: int
    """0 or 1."""
    phase: Literal["warm-up", "run"]
    step: int
    num_steps: int
    elapsed: float
    """Seconds since the run began; 0 in the warm-up."""
    round: int = 0
    num_rounds: int = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Runner:
    """One block shape of a race: its clip, and when each step and each frame was complete."""

    block_shape: Size3
    generation: Generation
    phases: tuple[str, ...]
    elapsed_s: tuple[float, ...]
    """Seconds from the start to the end of each step, tokenizer included."""
    places: tuple[Tokens, ...]
    """Raster places in the video's grid of the tokens of each step."""
    frame_s: tuple[float, ...]
    """Seconds from the start until each frame was decoded; 0 for known frames."""

    @property
    def num_tokens(self) -> int:
        """Number of generated tokens, without those of the context."""
        return sum(map(len, self.places))

    @property
    def num_new_frames(self) -> int:
        return sum(seconds > 0 for seconds in self.frame_s)

    @property
    def sampling_s(self) -> float:
        """Seconds of all forward passes and their sampling, without the tokenizer."""
        return sum(self.generation.timings["per_step_s"])

    @property
    def end_to_end_s(self) -> float:
        """Seconds from the request to the last frame, tokenizing and detokenizing included."""
        return self.elapsed_s[-1]

    def report(self) -> dict[str, Any]:
        """All figures, as JSON."""
        steps = self.generation.timings["per_step_s"]
        return {
            "block": format_block_shape(self.block_shape),
            "steps": self.generation.steps,
            "tokens": self.num_tokens,
            "new_frames": self.num_new_frames,
            "sampling_s": self.sampling_s,
            "end_to_end_s": self.end_to_end_s,
            "median_step_ms": 1e3 * statistics.median(steps),
            "tokens_per_s": self.num_tokens / self.sampling_s,
            "frames_per_s": self.num_new_frames / self.end_to_end_s,
            "timings": self.generation.timings,
            "manifest": self.generation.manifest,
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Race:
    """Both runners, in the order of the request, of the round with the median speed-up."""

    runners: tuple[Runner, Runner]
    rounds: tuple[tuple[Runner, Runner], ...] = ()
    """Every round, in its order. The clips of a runner are the same in all."""

    def speed_up(self) -> dict[str, float]:
        """Speed-up of the second runner; below 1 if it was slower."""
        first, second = self.runners
        return {
            "steps": first.generation.steps / second.generation.steps,
            "sampling": first.sampling_s / second.sampling_s,
            "end_to_end": first.end_to_end_s / second.end_to_end_s,
        }

    def step_cost(self) -> float:
        """How many times as long a step of the second runner takes, on average."""
        ratio = self.speed_up()
        return ratio["steps"] / ratio["sampling"]

    def spread(self) -> tuple[float, float]:
        """The least and the greatest end-to-end speed-up of all rounds."""
        ratios = [_end_to_end(pair) for pair in self.rounds or (self.runners,)]
        return min(ratios), max(ratios)

    def report(self) -> dict[str, Any]:
        """All figures as JSON. Token rates are of sampling, frame rates are end to end."""
        return {
            "warm_up": WARM_UP,
            "runners": [runner.report() for runner in self.runners],
            "speed_up": self.speed_up(),
            "step_cost": self.step_cost(),
            "rounds": [
                {"end_to_end_s": [r.end_to_end_s for r in pair], "speed_up": _end_to_end(pair)}
                for pair in self.rounds or (self.runners,)
            ],
        }


def _end_to_end(pair: tuple[Runner, Runner]) -> float:
    return pair[0].end_to_end_s / pair[1].end_to_end_s


def race(
    pipeline: VideoPipeline,
    request: RaceRequest,
    report: Callable[[Lap], None] = lambda lap: None,
    stop: threading.Event | None = None,
) -> Race:
    """Runs both runners. `report` is called after every step; its time counts, so keep it short.

    Raises ValueError, one sentence, for a request that the model cannot fulfil, or when stopped.
    """
    stop = stop or threading.Event()
    counts = [
        pipeline.num_steps(shape, request.request.num_context_frames, request.request.num_frames)
        for shape in request.shapes
    ]
    rounds: list[tuple[Runner, Runner]] = []
    for number in range(request.num_rounds):
        pair = []
        for index, (shape, num_steps) in enumerate(zip(request.shapes, counts, strict=True)):
            lap = Lap(
                runner=index, phase="warm-up", step=0, num_steps=num_steps, elapsed=0.0,
                round=number, num_rounds=request.num_rounds,
            )  # fmt: skip
            report(lap)
            warm_up(pipeline, request, shape, stop)
            pair.append(_run(pipeline, request, lap, report, stop))
            if stop.is_set():
                raise ValueError("Race stopped. Both runs must finish to be compared.")
        rounds.append((pair[0], pair[1]))
    median = sorted(rounds, key=_end_to_end)[len(rounds) // 2]
    return Race(runners=median, rounds=tuple(rounds))


def warm_up(
    pipeline: VideoPipeline, request: RaceRequest, shape: Size3, stop: threading.Event
) -> None:
    """Runs a few untimed steps, which load the parts of the engine that load lazily."""
    grey = np.full((1, CLIP_SIDE, CLIP_SIDE, 3), _GREY, np.uint8)
    largest = max(pipeline.block_shapes, key=math.prod)
    frames_THWC, num_frames = request.request.frames_THWC, request.request.num_frames
    # A clip of one frame is not longer than the grey context.
    longer = max(num_frames, pipeline.tokens.num_frames(2))
    beginnings: list[tuple[Size3, Frames | None, int]] = [
        (largest, grey, longer), (shape, grey, longer), (shape, frames_THWC, num_frames),
    ]  # fmt: skip
    for block_shape, known_THWC, length in beginnings:
        warm = replace(request.with_shape(block_shape), frames_THWC=known_THWC, num_frames=length)
        with pipeline.start(warm, stop=stop) as run:
            for _ in islice(run, WARM_STEPS):
                continue


def _run(
    pipeline: VideoPipeline,
    request: RaceRequest,
    lap: Lap,
    report: Callable[[Lap], None],
    stop: threading.Event,
) -> Runner:
    shape = request.shapes[lap.runner]
    phases: list[str] = []
    elapsed_s: list[float] = []
    places: list[Tokens] = []
    num_known = request.request.num_context_frames
    frame_s = [0.0] * num_known
    with pipeline.start(request.with_shape(shape), stop=stop) as run:
        for step in run:
            phases.append(step.phase)
            elapsed_s.append(step.elapsed)
            places.append(step.places)
            if step.new_frames is not None:
                # The first step returns the known frames too.
                known = num_known if step.index == 0 else 0
                frame_s += [step.elapsed] * (len(step.new_frames) - known)
            report(replace(lap, phase="run", step=step.index + 1, elapsed=step.elapsed))
    return Runner(
        block_shape=shape,
        generation=run.generation(),
        phases=tuple(phases),
        elapsed_s=tuple(elapsed_s),
        places=tuple(places),
        frame_s=tuple(frame_s),
    )
