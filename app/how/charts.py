"""Charts by block shape. The paper's figures and ours never share one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from app.how.measure import ShapeSpeed
from app.how.plan import SHAPES
from app.how.stored import FIGURES, StoredFigures
from app.parts.charts import OURS, PAPER, chart_layout, legend_below
from nbp_core.config.shapes import Size3, format_block_shape
from nbp_core.results.paper import FIGURE_6_7, TABLE1, TABLE3


def paper_values() -> dict[Size3, dict[str, tuple[float, str]]]:
    """The paper's figures for each block shape: 'fps' and 'fvd', each with its place."""
    found: dict[Size3, dict[str, tuple[float, str]]] = {shape: {} for shape in SHAPES}
    for row in TABLE1.rows:
        if row.preset == "XL":
            found[row.block_shape]["fps"] = row.fps, "table 1, 20 epochs"
    for table, place in ((TABLE3, "table 3"), (FIGURE_6_7, "figures 6 and 7")):
        for entry in table.rows:
            for key, value in (("fps", entry.fps), ("fvd", entry.fvd)):
                if value is not None:
                    found[entry.block_shape][key] = value, place
    return found


def paper_chart() -> go.Figure:
    """The paper's speed as bars and its FVD as diamonds, by block shape."""
    values = paper_values()
    figure = go.Figure()
    speed = {shape: of["fps"] for shape, of in values.items() if "fps" in of}
    quality = {shape: of["fvd"] for shape, of in values.items() if "fvd" in of}
    figure.add_bar(
        x=_names(speed),
        y=[value for value, _ in speed.values()],
        text=[f"{value:.2f}" for value, _ in speed.values()],
        textposition="outside",
        constraintext="none",
        customdata=[place for _, place in speed.values()],
        name="paper: frames per second",
        marker={"color": PAPER, "pattern": {"shape": "/"}},
        hovertemplate="%{y} frames per second<br>the paper's %{customdata}<extra></extra>",
    )
    figure.add_scatter(
        x=_names(quality),
        y=[value for value, _ in quality.values()],
        text=[f"{value:.1f}" for value, _ in quality.values()],
        customdata=[place for _, place in quality.values()],
        yaxis="y2",
        mode="markers+text",
        textposition="top center",
        name="paper: FVD, lower is better",
        marker={"color": PAPER, "symbol": "diamond", "size": 11},
        hovertemplate="FVD %{y}<br>the paper's %{customdata}<extra></extra>",
    )
    figure.update_layout(chart_layout("block shape", "frames per second"))
    figure.update_layout(
        yaxis={"range": [0, 20]},
        yaxis2={"title": {"text": "FVD"}, "overlaying": "y", "side": "right", "automargin": True,
                "range": [0, 40], "showgrid": False},
    )  # fmt: skip
    figure.update_xaxes(categoryorder="array", categoryarray=_names(SHAPES), tickangle=-45)
    return figure


def speeds_chart(speeds: Sequence[ShapeSpeed]) -> go.Figure:
    """Our tokens per second, measured a moment ago, by block shape."""
    figure = go.Figure()
    figure.add_bar(
        x=_names(speed.shape for speed in speeds),
        y=[speed.tokens_per_s for speed in speeds],
        text=[f"{speed.tokens_per_s:,.0f}" for speed in speeds],
        textposition="outside",
        constraintext="none",
        customdata=[[1e3 / speed.step_ms, speed.step_ms, speed.timed_steps] for speed in speeds],
        name="ours: tokens per second",
        showlegend=True,
        marker={"color": OURS[0]},
        hovertemplate="%{y:,.0f} tokens per second<br>%{customdata[0]:.1f} steps per second,"
        " %{customdata[1]:.1f} ms each<br>%{customdata[2]} steps timed<extra></extra>",
    )
    figure.update_layout(**chart_layout("block shape", "tokens per second"))
    figure.update_xaxes(tickangle=-45)
    figure.update_yaxes(range=[0, 1.15 * max(speed.tokens_per_s for speed in speeds)])
    return figure


def stored_chart(stored: Sequence[StoredFigures], key: str) -> go.Figure:
    """One of our figures as kept with the project, by block shape, a colour for each model."""
    figure = go.Figure()
    for index, figures in enumerate(stored):
        values = figures.by_shape.get(key, {})
        if not values:
            continue
        figure.add_bar(
            x=_names(values),
            y=list(values.values()),
            name=f"ours: {figures.title}",
            showlegend=True,
            marker={"color": OURS[index % len(OURS)]},
            hovertemplate="%{x}: %{y:.3g}<extra></extra>",
        )
    legend_below(figure, "block shape", FIGURES[key], 300)
    figure.update_xaxes(categoryorder="array", categoryarray=_names(SHAPES), tickangle=-45)
    return figure


def _names(shapes: Any) -> list[str]:
    return [format_block_shape(shape) for shape in shapes]
