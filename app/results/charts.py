"""Charts of the Results tab: the paper's figures and ours differ in colour, pattern and name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from statistics import median

import plotly.graph_objects as go

from app.parts.charts import COLOURS, DASHES, OURS, PAPER, SYMBOLS, legend_below
from app.results.tables import Speed
from nbp_core.config.shapes import format_block_shape, parse_block_shape
from nbp_core.results import paper
from nbp_core.results.files import Curve

HEIGHT = 270
BY_BLOCK = "validation loss by block"
MAX_POINTS = 300
"""Points of a noisy curve: each is the median of as many steps as that takes."""


def speed_chart(here: Mapping[tuple[str, str], Speed]) -> go.Figure:
    """Table 1 as bars on a logarithmic scale; bars measured here are there where there are some."""
    figure = go.Figure()
    sizes = list(dict.fromkeys(row.preset for row in paper.TABLE1.rows))
    blocks = list(dict.fromkeys(row.block_shape for row in paper.TABLE1.rows))
    for shape, shade in zip(blocks, (0.55, 1.0), strict=True):
        block = format_block_shape(shape)
        theirs = {row.preset: row.fps for row in paper.TABLE1.rows if row.block_shape == shape}
        ours = {size: here[size, block].fps for size in sizes if (size, block) in here}
        for who, speeds, colour, pattern in (
            ("paper, one A100", theirs, PAPER, "/"),
            ("measured here", ours, OURS[0], ""),
        ):
            if speeds:
                name = f"{who}: {block}"
                figure.add_bar(
                    x=[size for size in sizes if size in speeds],
                    y=[speeds[size] for size in sizes if size in speeds],
                    name=name,
                    opacity=shade,
                    marker={"color": colour, "pattern": {"shape": pattern}},
                    hovertemplate="%{x}: %{y:.3g} frames/s<extra>" + name + "</extra>",
                )
    legend_below(figure, "model size", "frames per second", HEIGHT)
    figure.update_layout(barmode="group", bargap=0.25)
    figure.update_yaxes(type="log", dtick=1)
    return figure


def groups(curve: Curve) -> dict[str, list[str]]:
    """The metrics of a run that share a chart: each validation joins what it validates."""
    found: dict[str, list[str]] = {}
    for key in curve.metrics:
        base = key.removeprefix("val_")
        found.setdefault(BY_BLOCK if _is_block(base) else base, []).append(key)
    return found


def _is_block(name: str) -> bool:
    try:
        parse_block_shape(name)
    except ValueError:
        return False
    return True


def usual_runs(curves: Mapping[str, Curve]) -> list[str]:
    """The runs shown at first: the last one, and all that logged the same figures."""
    if not curves:
        return []
    wanted = groups(list(curves.values())[-1]).keys()
    return [name for name, curve in curves.items() if groups(curve).keys() == wanted]


def training_chart(curves: Sequence[Curve], group: str, smoothing: float = 0.0) -> go.Figure:
    """The curves of one group over the steps: training as a line, validations with marks.

    smoothing: weight, 0 to 1, of the past in the exponential average of a training line.
    """
    figure = go.Figure()
    for which, curve in enumerate(curves):
        for index, key in enumerate(groups(curve).get(group, [])):
            _add_curve(figure, curve, key, (which, index), smoothing)
    legend_below(figure, "step", group, HEIGHT)
    return figure


def _add_curve(
    figure: go.Figure, curve: Curve, key: str, place: tuple[int, int], smoothing: float
) -> None:
    """place: (which run, which of its curves). Colours tell curves apart, dashes tell runs."""
    which, index = place
    points = curve.metrics[key]
    is_validation = key.startswith("val_")
    steps, values = zip(*(points if is_validation else _thin(points)), strict=True)
    kind = f"validation, {key.removeprefix('val_')}" if is_validation else f"training, {key}"
    name = f"{curve.name}: {kind}"
    figure.add_scatter(
        x=steps,
        y=values if is_validation else smooth(values, smoothing),
        name=name,
        mode="lines+markers" if is_validation or len(steps) == 1 else "lines",
        line={
            "color": COLOURS[(index if is_validation else which) % len(COLOURS)],
            "dash": DASHES[which % len(DASHES)],
            "width": 1.5,
        },
        marker={"symbol": SYMBOLS[index % len(SYMBOLS)], "size": 6},
        hovertemplate="step %{x}: %{y:.4g}<extra>" + escape(name) + "</extra>",
    )


def smooth(values: Sequence[float], weight: float) -> list[float]:
    """Exponential average; the weights of the first values are corrected to add up to 1."""
    average, total, smoothed = 0.0, 0.0, []
    for value in values:
        average = weight * average + (1 - weight) * value
        total = weight * total + 1 - weight
        smoothed.append(average / total)
    return smoothed


def _thin(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    size = -(-len(points) // MAX_POINTS)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    return [(part[-1][0], median(value for _, value in part)) for part in parts]
