"""Makes the clips of a grid: those that can share a batch at once, the others one after another.

Knows no Gradio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.clips.run import Clips, make_clips
from app.clips.words import device_words, plural, weights_words
from app.compare.grid.form import Cell
from app.jobs import Job
from app.parts.pictures import jpeg_uri
from nbp_core.generation.request import batches
from nbp_core.media.files import MAX_PIXELS
from nbp_core.media.pictures import read_image

if TYPE_CHECKING:
    from app.clips.progress import Progress
    from app.clips.run import Outcome
    from app.session import Session


_NAMED = 3
"""Captions that are named before the rest are counted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GridCell:
    """A finished clip of a grid."""

    clip_id: str
    caption: str
    details: str
    """Steps, and seconds where the clip was made alone."""
    frames: str
    """All frames side by side, as the address of a picture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GridResult:
    """The finished clips, and the line that says what was measured."""

    cells: tuple[GridCell, ...]
    is_complete: bool
    measured: str
    not_kept: str
    """Why some of the clips are not in the gallery; empty if all are."""


def run(session: Session, cells: Sequence[Cell], job: Job) -> GridResult:
    """Makes the clips in the worker thread; a stop keeps those that are finished.

    Raises ValueError if none is.
    """
    made: list[GridCell] = []
    parts: list[Clips] = []
    not_kept = ""
    for batch in batches([cell.request for cell in cells]):
        clips = _make(session, cells, batch, job)
        if not clips.is_complete:
            break
        parts.append(clips)
        for place, index in enumerate(batch):
            clip_id = f"{job.id}-{index}"
            outcome = clips.keep(place, clip_id)
            session.jobs.adopt(clip_id, cells[index].request, outcome, is_earlier=False)
            not_kept = not_kept or outcome.not_kept
            made.append(_finished(clip_id, cells[index].caption, outcome, len(batch)))
    if not made:
        raise ValueError("Stopped before the first clip was finished, so there is no grid.")
    return GridResult(
        cells=tuple(made),
        is_complete=len(made) == len(cells),
        measured=_measured(parts),
        not_kept=not_kept,
    )


def _make(session: Session, cells: Sequence[Cell], batch: range, job: Job) -> Clips:
    first, last = batch.start + 1, batch.stop
    clips = f"Clip {first}" if first == last else f"Clips {first} to {last}"
    named = ", ".join(cells[index].caption for index in batch[:_NAMED])
    rest = len(batch) - _NAMED
    text = f"{clips} of {len(cells)}: {named}{f' and {rest} more' if rest > 0 else ''}."

    def report(progress: Progress) -> None:
        step, num_steps = progress.step, progress.num_steps
        share = (batch.start + len(batch) * step / num_steps) / len(cells)
        is_last = step == num_steps
        doing = "Writing the files..." if is_last else f"Step {step:,} of {num_steps:,}."
        job.report((share, f"{text} {doing}"))

    return make_clips(session, [cells[index].request for index in batch], job, report)


def _finished(clip_id: str, caption: str, outcome: Outcome, num_at_once: int) -> GridCell:
    steps = plural(len(outcome.phases), "step")
    return GridCell(
        clip_id=clip_id,
        caption=caption,
        details=steps if num_at_once > 1 else f"{steps}, {outcome.seconds:.2f} s",
        frames=jpeg_uri(read_image(outcome.strip, MAX_PIXELS)),
    )


def _measured(parts: Sequence[Clips]) -> str:
    """The line that says what was measured, on what and with which weights."""
    count = sum(len(part.requests) for part in parts)
    seconds = sum(part.seconds for part in parts)
    most = max(len(part.requests) for part in parts)
    how = f"up to {most} at once" if most > 1 else "one after another"
    pipelines = {part.pipeline.name: part.pipeline for part in parts}
    weights = "; ".join(map(weights_words, pipelines.values()))
    return (
        f"Measured here: {plural(count, 'clip')} in {seconds:.2f} s, {seconds / count:.2f} s per"
        f" clip, made {how}, tokenizing and detokenizing included, on"
        f" {device_words(parts[0].pipeline)}, with {weights}."
    )
