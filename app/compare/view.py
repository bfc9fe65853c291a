"""What the Compare tab shows of a race: progress, replay, figures in words and in a table."""

from __future__ import annotations

from html import escape
from typing import Any, Final

import numpy as np

from app.compare.run import RaceResult, runner_name
from app.jobs import JobView
from app.parts.pictures import SHEET_COLUMNS, png_uri, sheet, token_colours
from app.parts.status import bar_and_line, standing
from nbp_core.config.shapes import CLIP_FPS
from nbp_core.generation.race import WARM_UP, Race, Runner

FAIR: Final = (
    "**Fair because:** both runners have the same weights, the same start, the same seed and the"
    " same sampling settings; they run one after the other on the same device, three times in turn;"
    f" and each is warmed up first. {WARM_UP} No previews are drawn"
    " during the race, so drawing does not affect the times. The same seed does not mean the same"
    " clip: another block shape draws its random numbers in another order."
)

_ROWS: Final = (
    ("forward steps", "steps", "{:,.0f}"),
    ("tokens made", "tokens", "{:,.0f}"),
    ("new frames", "new_frames", "{:,.0f}"),
    ("sampling only, seconds", "sampling_s", "{:.2f}"),
    ("end to end with the tokenizer, seconds", "end_to_end_s", "{:.2f}"),
    ("median step, milliseconds", "median_step_ms", "{:.1f}"),
    ("tokens per second, sampling only", "tokens_per_s", "{:,.0f}"),
    ("new frames per second, end to end", "frames_per_s", "{:.2f}"),
)
_RATIOS: Final = {"steps": "steps", "sampling_s": "sampling", "end_to_end_s": "end_to_end"}


def status(view: JobView | None) -> str:
    """The bar and one line on where the race stands, as HTML."""
    done = "Finished. Press Replay to watch the race again."
    return bar_and_line("Progress of the race", standing(view, lambda _: done))


def replay(result: RaceResult) -> dict[str, Any]:
    """The value of the replay: pictures once, and the times at which their parts were there."""
    first = result.race.runners[0].generation
    return {
        "runners": [_replay_runner(runner) for runner in result.race.runners],
        "grid": list(first.tokens_thw.shape),
        "columns": SHEET_COLUMNS,
        "side": int(first.frames_THWC.shape[1]),
        "fps": CLIP_FPS,
    }


def _replay_runner(runner: Runner) -> dict[str, Any]:
    tokens_thw = runner.generation.tokens_thw
    return {
        "name": runner_name(runner.block_shape),
        "frames": png_uri(np.concatenate(list(runner.generation.frames_THWC), axis=1)),
        "tokens": png_uri(sheet(token_colours(tokens_thw))),
        "frame_s": [round(seconds, 5) for seconds in runner.frame_s],
        "step_s": [round(seconds, 5) for seconds in runner.elapsed_s],
        "places": [places.tolist() for places in runner.places],
        "known": tokens_thw.size - runner.num_tokens,
    }


_DEARER = (
    "<p>A step with more tokens takes longer, above all on a processor with little parallel power,"
    " so the gain is smaller than the number of steps suggests.</p>"
)


def headline(result: RaceResult) -> str:
    """The speed-up as a sum, with its range, its bars to scale and the pace, as HTML."""
    race = result.race
    ratio, cost = race.speed_up(), race.step_cost()
    first, second = (runner_name(runner.block_shape) for runner in race.runners)
    steps = [runner.generation.steps for runner in race.runners]
    step_ms = [1e3 * r.sampling_s / r.generation.steps for r in race.runners]
    terms = [
        (_fewer(ratio["steps"]), f"{steps[0]:,} to {steps[1]:,}"),
        (f"{cost:.1f}x the time per step", f"{step_ms[0]:.2f} to {step_ms[1]:.2f} ms on average"),
        (f"{_times(ratio['sampling'])} sampling", "without the tokenizer"),
    ]
    sign = "\N{DIVISION SIGN}" if ratio["steps"] >= 1 else "\N{MULTIPLICATION SIGN}"
    signs = (f"<span>{sign}</span>", "<span>=</span>", "")
    parts = "".join(
        f"<span><b>{term}</b><small>{about}</small></span>{after}"
        for (term, about), after in zip(terms, signs, strict=True)
    )
    return (
        f"<p>{escape(second)} against {escape(first)}, with the tokenizer:"
        f" <b>{_times(ratio['end_to_end'])}</b>{_range(race)}.</p>"
        f'<p class="sum">{parts}</p>{_bars(race)}' + (_DEARER if cost > 1 < ratio["steps"] else "")
    )


def _range(race: Race) -> str:
    count = len(race.rounds)
    if count < 2:
        return ""
    least, most = race.spread()
    return f" (median of {count} races, {least:.1f}x to {most:.1f}x)"


def _bars(race: Race) -> str:
    """Seconds of both as bars to scale, each with its pace against real time."""
    longest = max(runner.end_to_end_s for runner in race.runners)
    rows = ""
    for runner in race.runners:
        pace = runner.num_new_frames / runner.end_to_end_s
        rows += (
            f"<dt>{escape(runner_name(runner.block_shape))}</dt>"
            f'<dd><span class="length" style="width:{100 * runner.end_to_end_s / longest:.1f}%">'
            f"</span> {runner.end_to_end_s:.2f} s, {pace:.1f} frames/s:"
            f" {_pace(pace / CLIP_FPS)}</dd>"
        )
    return f'<dl class="bars">{rows}</dl>'


def _pace(times: float) -> str:
    if times >= 1:
        return f"{times:.1f}x faster than real time ({CLIP_FPS} frames/s)"
    return f"{1 / times:.1f}x slower than real time ({CLIP_FPS} frames/s)"


def _fewer(ratio: float) -> str:
    return f"{ratio:.1f}x fewer steps" if ratio >= 1 else f"{1 / ratio:.1f}x more steps"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}x faster" if ratio >= 1 else f"{1 / ratio:.1f}x slower"


def figures_table(result: RaceResult) -> str:
    """All figures side by side, as HTML."""
    first, second = result.report["runners"]
    head = "".join(
        f'<th scope="col">{escape(runner_name(runner.block_shape))}</th>'
        for runner in result.race.runners
    )
    rows = []
    for label, key, form in _ROWS:
        ratio = _RATIOS.get(key)
        saved = f"{result.report['speed_up'][ratio]:.1f}x" if ratio else ""
        rows.append(
            f'<tr><th scope="row">{label}</th><td>{form.format(first[key])}</td>'
            f"<td>{form.format(second[key])}</td><td>{saved}</td></tr>"
        )
    return (
        '<div tabindex="0" role="group" aria-label="Figures of the race"><table>'
        f'<thead><tr><th scope="col">measured here</th>{head}<th scope="col">ratio</th></tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
