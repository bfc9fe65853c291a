"""How a run stands: its status line, its progress bar and counters, as HTML."""

from __future__ import annotations

from html import escape

from app.clips.progress import Progress
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


_FIGURES = ("step", "time", "tokens/s", "frames/s", "cache")


def status(view: JobView | None) -> str:
    """One line on where the run stands, as HTML."""
    if view is None:
        return line("Ready.")
    if view.state is JobState.WAITING:
        return line(waiting(view))
    if view.state is JobState.RUNNING:
        if view.progress is None:
            return line(view.note or "Encoding your input...")
        if view.is_paused:
            done, steps = view.progress.step, view.progress.num_steps
            return line(
                f'Paused at step {done:,} of {steps:,}. "Step" makes one more block. If someone'
                " else is waiting, the run resumes after one minute."
            )
        if view.progress.step == view.progress.num_steps:
            return line("Writing the files...")
        is_token = view.progress.block_shape == (1, 1, 1)
        phase = "token by token" if is_token else _PHASES.get(view.progress.phase, "")
        return line(f"Running, {phase}.")
    if view.state is JobState.FAILED:
        return line(view.error, "failed")
    if view.result is None:
        return line(view.error or "Stopped before it started.")
    if not view.result.is_complete:
        kept = view.result.num_frames
        return line(
            f"Stopped: the {kept} frames made so far are kept."
            if kept > 1
            else "Stopped: the one frame made so far is kept."
        )
    return line("Done.")


def waiting(view: JobView) -> str:
    """A waiting job's place in the queue, and how long it is likely to wait."""
    if not view.ahead:
        return "Starting."
    others = "1 run is" if view.ahead == 1 else f"{view.ahead} runs are"
    if view.wait_s is None:
        return f"Waiting in the queue: {others} ahead."
    return f"Waiting in the queue: {others} ahead, about {max(1, round(view.wait_s)):,} s."


def line(text: str, kind: str = "") -> str:
    """A sentence that screen readers announce; `kind` may be "failed"."""
    return f'<p role="status" class="{kind}">{escape(text)}</p>'
