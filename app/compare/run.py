"""One race of two block shapes: a request -> progress -> clips and figures. Knows no Gradio."""

from __future__ import annotations

import json
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.clips.exports import RESULT_SCALE
from app.clips.request import Request, file_stem
from app.clips.words import device_words, plural, weights_words
from app.jobs import Job
from app.parts.made import action_words
from app.parts.pictures import block_name
from app.parts.uploads import STARTS
from nbp_core.config.shapes import CLIP_FPS, Size3, format_block_shape
from nbp_core.generation.race import Lap, Race, RaceRequest, race
from nbp_core.media.video import write_video
from nbp_core.results.paper import TABLE1

if TYPE_CHECKING:
    from app.session import Session
    from nbp_core.generation.offer import ModelOffer
    from nbp_core.generation.pipeline import VideoPipeline

Pair = tuple[Size3, Size3]
NUM_ROUNDS = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class PageRace(RaceRequest):
    """A race with the settings of the page."""

    request: Request
    num_rounds: int = NUM_ROUNDS


@dataclass(frozen=True, kw_only=True, slots=True)
class RaceResult:
    """A finished race: both clips, all figures, and the line that says what was measured."""

    race: Race
    clips: tuple[Path, Path]
    figures: Path
    report: dict[str, Any]
    measured: str


def check_model(offer: ModelOffer) -> None:
    """Raises ValueError for a model that was trained for a single block shape."""
    if len(offer.block_shapes) == 1:
        only = format_block_shape(offer.block_shapes[0])
        raise ValueError(
            f"Model {offer.name!r} supports blocks of {only} only. A fair race needs two block"
            " shapes of the same weights. Choose a model that supports several block sizes, such as"
            " small."
        )


def why_no_race(session: Session, model: str | None) -> str:
    """Why a model cannot race, as HTML; nothing when it can."""
    try:
        check_model(session.offer(model))
    except ValueError as error:
        return f'<p role="status">{escape(str(error))}</p>'
    return ""


def new_race(session: Session, request: Request, shapes: Pair) -> PageRace:
    """The race of a request. Raises ValueError, one sentence, when it cannot be run."""
    check_model(session.pipeline(request.model))
    if shapes[0] == shapes[1]:
        both = f"Baseline and challenger both have blocks of {format_block_shape(shapes[0])}"
        raise ValueError(f"{both}: choose two different ones.")
    for shape in shapes:
        check_clip(session, request, shape)
    return PageRace(shapes=shapes, request=request)


def check_clip(session: Session, request: Request, shape: Size3) -> None:
    """Raises ValueError for a clip that the engine would refuse only when its turn comes."""
    offer, blocks = session.offer(request.model), format_block_shape(shape)
    if request.action is not None and request.action not in offer.actions:
        raise ValueError(f"Model {request.model} has no action {request.action!r}.")
    if offer.needs_action and (request.action is None or request.sampling.guidance != 1):
        raise ValueError(f"Model {request.model} needs an action, and a guidance of 1.")
    if shape not in offer.block_shapes:
        raise ValueError(f"Model {request.model} has no blocks of {blocks}.")
    try:
        offer.num_steps(shape, request.num_context_frames, request.num_frames)
    except ValueError as error:
        start = next(words for words, start in STARTS if start == request.start)
        raise ValueError(
            f"Model {request.model} cannot make {plural(request.num_frames, 'frame')} from"
            f" {start} in blocks of {blocks}. Choose another start, block or model."
        ) from error


def run(session: Session, asked: PageRace, job: Job) -> RaceResult:
    """Runs the race in the worker thread. Raises ValueError when it cannot be run to its end."""
    with job.lending():
        pipeline = session.pipeline(asked.request.model)
    result = race(
        pipeline,
        asked,
        # No picture is made of a step: whoever watches must not slow the runners down.
        lambda lap: job.report(_progress(lap, asked.shapes)),
        job.stop,
    )
    measured = _measured(pipeline, result)
    report = {"measured": measured, "device": device_words(pipeline), **result.report()}
    stem = file_stem(asked.request)

    def written(folder: Path) -> RaceResult:
        clips = []
        for runner, figures in zip(result.runners, report["runners"], strict=True):
            path = folder / f"{stem}_race-{figures['block']}.mp4"
            comment = json.dumps(runner.generation.manifest, indent=2)
            frames = runner.generation.frames_THWC
            write_video(path, frames, CLIP_FPS, RESULT_SCALE, comment=comment)
            clips.append(path)
        figures_file = folder / f"{stem}_race.json"
        figures_file.write_text(json.dumps(report, indent=2) + "\n")
        return RaceResult(
            race=result,
            clips=(clips[0], clips[1]),
            figures=figures_file,
            report=report,
            measured=measured,
        )

    return session.write_output(job.id, written)


def _progress(lap: Lap, shapes: Pair) -> tuple[float, str]:
    who = f"{runner_name(shapes[lap.runner])} ({('baseline', 'challenger')[lap.runner]})"
    race = f"Race {lap.round + 1} of {lap.num_rounds}"
    share = (lap.round + (lap.runner + lap.step / lap.num_steps) / 2) / lap.num_rounds
    if lap.phase == "warm-up":
        return share, f"{race}. Warming up, untimed: {who}."
    return share, (
        f"{race}. Running {who}: step {lap.step:,} of {lap.num_steps:,}, {lap.elapsed:.1f} s."
    )


def runner_name(shape: Size3) -> str:
    """'token 1x1x1' and what it is called in the paper."""
    kind = "next token" if shape == (1, 1, 1) else "next block"
    return f"{block_name(shape)} {format_block_shape(shape)}, {kind}"


def _measured(pipeline: VideoPipeline, result: Race) -> str:
    runner = result.runners[0]
    manifest = runner.generation.manifest
    sampling = manifest["sampling"]
    return (
        f"Measured here, median of {len(result.rounds)} races:"
        f" {plural(runner.num_new_frames, 'new frame')} ({action_words(manifest)}, seed"
        f" {sampling['seed']}, temperature {sampling['temperature']:g}) on"
        f" {device_words(pipeline)}, with {weights_words(pipeline)}."
    )


def paper_words() -> str:
    """The paper's figures for such a race, marked as the paper's."""
    token, row = (entry for entry in TABLE1.rows if entry.preset == "XL")
    return (
        f"The paper's own figure, not measured here: {row.fps / token.fps:.0f} times the frames"
        f" per second ({token.fps:.2f} to {row.fps:.2f}) with {row.steps} steps in place of"
        f" {token.steps}, for its {row.size} model on an A100 (Kinetics-600, five frames given,"
        f" tokenizer included; {TABLE1.source})."
    )
