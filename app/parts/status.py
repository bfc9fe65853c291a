"""How a run stands: its status line, its progress bar and counters, as HTML."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from typing import Any

from app.clips.progress import Progress
from app.clips.run import Outcome
from app.jobs import JobState, JobView

_PHASES = {
    "prefill": "encoding the input",
    "token": "first block, token by token",
    "block": "block by block",
}


def counters(progress: Progress | None) -> str:
    """The bar and the figures under the live view, as HTML."""
    if progress is None:
        share, figures = 0.0, dict.fromkeys(_FIGURES, "-")
    else:
        share = progress.step / progress.num_steps
        seconds = max(progress.elapsed, 1e-9)
        values = (
            f"{progress.step:,}/{progress.num_steps:,}",
            f"{progress.elapsed:.1f} s",
            f"{progress.num_tokens / seconds:,.0f}",
            f"{max(0, progress.num_frames - progress.num_context_frames) / seconds:.1f}",
            f"{progress.cache_bytes / 1e6:.1f} MB",
        )
        figures = dict(zip(_FIGURES, values, strict=True))
    items = "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in figures.items())
    return f"{bar('Progress of the run', share)}<dl>{items}</dl>"


def bar(label: str, share: float) -> str:
    """A progress bar, as HTML; `share` is from 0 to 1."""
    return (
        f'<div class="bar" role="progressbar" aria-label="{label}" aria-valuemin="0"'
        f' aria-valuemax="100" aria-valuenow="{100 * share:.0f}">'
        f'<div style="width:{100 * share:.1f}%"></div></div>'
    )


_FIGURES = ("step", "time", "tokens/s", "frames/s", "KV cache")


def standing(
    view: JobView | None,
    done: Callable[[Any], str],
    *,
    loading: str = "Loading the model...",
    running: Callable[[Any], tuple[float, str]] = lambda progress: progress,
) -> tuple[float, str, str]:
    """(finished share from 0 to 1, a sentence, "failed" or "") for any job.

    done: the sentence of a job's result. loading: what is said before the first progress. running:
    (share, sentence) of its progress, for a job that does not report just these.
    """
    if view is None:
        return 0.0, "Ready.", ""
    if view.state is JobState.WAITING:
        return 0.0, waiting(view), ""
    if view.state is JobState.FAILED:
        return 0.0, view.error, "failed"
    if view.state is JobState.RUNNING:
        if view.progress is None:
            return 0.0, view.note or loading, ""
        return *running(view.progress), ""
    if view.result is None:
        return 0.0, view.error or "Stopped before it started.", ""
    return 1.0, done(view.result), ""


def bar_and_line(label: str, stands: tuple[float, str, str]) -> str:
    """A job's progress bar over its status line, as HTML."""
    share, text, kind = stands
    return bar(label, share) + line(text, kind)


def status(view: JobView | None) -> str:
    """One line on where a generation stands, as HTML."""
    is_paused = view is not None and view.is_paused
    running = partial(_running, is_paused)
    _, text, kind = standing(view, _done, loading="Encoding your input...", running=running)
    return line(text, kind)


def _running(is_paused: bool, progress: Progress) -> tuple[float, str]:
    share = progress.step / progress.num_steps
    if is_paused:
        return share, (
            f'Paused at step {progress.step:,} of {progress.num_steps:,}. "Step" makes one more'
            " block. If someone else is waiting, the run resumes after one minute."
        )
    if progress.step == progress.num_steps:
        return share, "Writing the files..."
    is_token = progress.block_shape == (1, 1, 1)
    phase = "token by token" if is_token else _PHASES.get(progress.phase, "")
    return share, f"Running, {phase}."


def _done(outcome: Outcome) -> str:
    if outcome.not_kept:
        return not_kept("the clip", outcome.not_kept)
    if outcome.is_complete:
        return "Done."
    if outcome.num_frames == 1:
        return "Stopped: the one frame made so far is kept."
    return f"Stopped: the {outcome.num_frames} frames made so far are kept."


def not_kept(what: str, reason: str) -> str:
    """What a visitor can do about clips that the gallery cannot keep."""
    return (
        f"The gallery cannot keep {what}: {reason}. Download what you need before the studio ends."
    )


def waiting(view: JobView) -> str:
    """A waiting job's place in the queue, and how long it is likely to wait."""
    if not view.ahead:
        return "Starting."
    others = "1 run is" if view.ahead == 1 else f"{view.ahead} runs are"
    if view.wait_s is None:
        return f"Waiting in the queue: {others} ahead."
    wait_s = max(1, round(view.wait_s))
    return f"Waiting in the queue: {others} ahead. This one starts in about {wait_s:,} s."


def line(text: str, kind: str = "") -> str:
    """A sentence that screen readers announce; `kind` may be "failed"."""
    return f'<p role="status" class="{kind}">{escape(text)}</p>'
