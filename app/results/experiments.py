"""Charts of experiments: figures by block shape, how ways of drawing blocks trade quality for
diversity, how long clips change over time, models trained to be compared, where heads look. Only
what results files say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Final

import plotly.graph_objects as go

from app.parts.charts import COLOURS, GREY, SYMBOLS, legend_below, lines
from app.results import trained
from nbp_core.results.files import ResultFile

HEIGHT: Final = 290
_DIVERSITY: Final = (
    "difference between clips of one start",
    "difference between clips of an action",
)
_AGAINST: Final = ("Frechet", "flicker", "token changes at still places", "action accuracy")
_NO_FIGURE: Final = {"window", "to_frame", "clips"}
_NO_BLOCK_FIGURE: Final = {"steps", "batch", "clips"}
_AXES: Final = {
    "loss": "loss, nats per token",
    "loss without keys": "loss without keys, nats per token",
    "frames_s": "frames per second",
    "flicker at still places": "flicker at still places, grey levels per frame",
    "PSNR after 4 latent frames": "PSNR after 4 latent frames, dB",
}
"""Titles of axes with their units, for columns whose rows name none."""

Chart = Callable[[], go.Figure]


def titled(results: Sequence[ResultFile]) -> dict[str, ResultFile]:
    """The files that charts can be drawn of, by their titles; files of one title by their names
    as well.
    """
    drawn = [result for result in results if charts(result)]
    titles = Counter(result.title for result in drawn)
    return {
        result.title
        if titles[result.title] == 1
        else f"{result.title}: {Path(result.name).stem.replace('-', ' ')}": result
        for result in drawn
    }


def charts(result: ResultFile) -> dict[str, Chart]:
    """The charts of a file, by their names in the menu. Where heads look is on the Attention
    tab."""
    match result.kind:
        case "trained":
            return {words: partial(trained.chart, result, words) for words in trained.CHARTS}
        case "longer":
            return {m: partial(windows_chart, result, m) for m in _figures(result, _NO_FIGURE)}
        case "blocks":
            metrics = _figures(result, _NO_BLOCK_FIGURE)
            return {metric: partial(blocks_chart, result, metric) for metric in metrics}
        case "evaluation":
            return _of_ways(result)
    return {}


def _of_ways(result: ResultFile) -> dict[str, Chart]:
    """Against diversity where it was measured; a chart of one kind of clips alone says nothing."""
    metrics = list(dict.fromkeys(str(row["metric"]) for row in result.rows))
    diversity = next((d for d in _DIVERSITY if len(_by_clips(result, d)) > 2), None)
    if diversity is not None:
        return {
            f"{metric} against diversity": partial(ways_chart, result, metric, diversity)
            for metric in metrics
            if metric.startswith(_AGAINST)
        }
    return {
        metric: partial(bars_chart, result, metric)
        for metric in metrics
        if len(_by_clips(result, metric)) > 1
    }


def _by_clips(result: ResultFile, metric: str) -> dict[str, float]:
    """The values of a metric by which clips they are of; baselines are left out."""
    return {
        str(row["of"]): row["value"]
        for row in result.rows
        if row["metric"] == metric and isinstance(row["value"], (int, float))
    }


def _with_unit(result: ResultFile, metric: str) -> str:
    """The name of a metric, with the unit that its rows name."""
    units = (row["unit"] for row in result.rows if row["metric"] == metric and row.get("unit"))
    unit = next(units, None)
    return f"{metric}, {unit}" if unit else metric


def ways_chart(result: ResultFile, metric: str, diversity: str) -> go.Figure:
    """A mark for each way of drawing: one measure of quality over diversity."""
    figure = go.Figure()
    values, spread = _by_clips(result, metric), _by_clips(result, diversity)
    both = [of for of in values if of in spread]
    for index, of in enumerate(both):
        name = of.split(", ", 1)[-1]
        figure.add_scatter(
            x=[spread[of]],
            y=[values[of]],
            name=name,
            mode="markers",
            marker={
                "size": 12,
                "color": COLOURS[index % len(COLOURS)],
                "symbol": SYMBOLS[(index + index // len(COLOURS)) % len(SYMBOLS)],
            },
            hovertemplate=f"{name}<br>%{{y:.4g}} at diversity %{{x:.4g}}<extra></extra>",
        )
    legend_below(figure, f"{diversity}, grey levels", _with_unit(result, metric), HEIGHT)
    return figure


def bars_chart(result: ResultFile, metric: str) -> go.Figure:
    """A bar for each kind of clips, across: their names are long."""
    values = _by_clips(result, metric)
    figure = go.Figure()
    figure.add_bar(
        x=list(values.values()), y=[lines(of, 24) for of in values], orientation="h",
        marker={"color": COLOURS[0]}, name=_with_unit(result, metric),
        hovertemplate="%{y}: %{x:.4g}<extra></extra>",
    )  # fmt: skip
    legend_below(figure, "", "", max(HEIGHT, 80 + 34 * len(values)))
    figure.update_yaxes(autorange="reversed")
    return figure


def blocks_chart(result: ResultFile, metric: str) -> go.Figure:
    """A mark for each block shape, in the file's order; a hollow one was not trained."""
    figure = go.Figure()
    rows = [row for row in result.rows if isinstance(row.get(metric), int | float)]
    for is_trained, name in ((True, "trained in these blocks"), (False, "never trained in these")):
        mine = [row for row in rows if bool(row.get("shape_was_trained", True)) is is_trained]
        if mine:
            figure.add_scatter(
                x=[row["block"] for row in mine],
                y=[row[metric] for row in mine],
                name=name,
                mode="markers",
                marker={
                    "color": COLOURS[0],
                    "size": 12,
                    "symbol": "circle" if is_trained else "circle-open",
                },
                hovertemplate="%{x}: %{y:.4g}<extra></extra>",
            )
    legend_below(figure, "block shape", _AXES.get(metric, metric), HEIGHT)
    figure.update_xaxes(
        type="category", categoryorder="array", categoryarray=[row["block"] for row in rows]
    )
    return figure


def _figures(result: ResultFile, but: Set[str]) -> list[str]:
    keys = dict.fromkeys(key for row in result.rows for key in row if key not in but)
    return [key for key in keys if any(isinstance(row.get(key), float) for row in result.rows)]


def windows_chart(result: ResultFile, metric: str) -> go.Figure:
    """A line for each kind of block over the windows of a long clip; real clips as a dashed one."""
    figure = go.Figure()
    blocks = list(dict.fromkeys(str(row["block"]) for row in result.rows))
    for index, block in enumerate(blocks):
        rows = [row for row in result.rows if row["block"] == block and row.get(metric) is not None]
        made = [row for row in rows if row.get("of") != "real clips"]
        if made:
            figure.add_scatter(
                x=[row["window"] for row in made],
                y=[row[metric] for row in made],
                name=block,
                mode="lines+markers",
                line={"color": COLOURS[index % len(COLOURS)]},
                marker={"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 8},
                hovertemplate="piece %{x}: %{y:.4g}<extra>" + block + "</extra>",
            )
    real = [row[metric] for row in result.rows if row.get("of") == "real clips" and metric in row]
    if real:
        last = max(int(str(row["window"])) for row in result.rows)
        figure.add_scatter(
            x=[1, last], y=[real[0], real[0]], name="real clips",
            mode="lines" if last > 1 else "markers",
            line={"color": GREY, "dash": "dash"}, hoverinfo="name+y",
        )  # fmt: skip
    words = "piece of 17 frames (tokenizer alone: number of passes through it)"
    legend_below(figure, words, _AXES.get(metric, metric), HEIGHT)
    return figure
