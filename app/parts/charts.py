"""Charts, as plotly figures that read well on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from textwrap import wrap
from typing import Any

import plotly.graph_objects as go

# Okabe and Ito's colours, told apart by colour-blind readers.
BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, GREY, YELLOW = "#E69F00", "#56B4E9", "#999999", "#F0E442"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, GREY, YELLOW)
PAPER = VERMILION
"""The paper's figures, in every chart that has some."""
OURS = (BLUE, GREEN, ORANGE, PURPLE, SKY, GREY)
"""Figures measured here, in a chart of their own or beside the paper's."""
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_PHASE_COLOURS = {"prefill": VERMILION, "token": SKY, "block": BLUE}
_PHASE_NAMES = {"prefill": "prefill", "token": "token by token", "block": "block by block"}
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x", "star", "pentagon")
_NO_FILL = "rgba(0,0,0,0)"
_GRID = "rgba(128,128,128,0.25)"


def timing_chart(per_step_s: Sequence[float], phases: Sequence[str]) -> go.Figure:
    """A bar for each forward step, coloured by its phase, with the median as a line."""
    per_step_ms = [1000 * seconds for seconds in per_step_s]
    # A step that was stopped may have been timed without having been reported, or the reverse.
    steps = list(zip(range(1, len(per_step_ms) + 1), per_step_ms, phases, strict=False))
    figure = go.Figure()
    for phase, colour in _PHASE_COLOURS.items():
        mine = [(index, ms) for index, ms, of in steps if of == phase]
        if mine:
            figure.add_bar(
                x=[index for index, _ in mine],
                y=[ms for _, ms in mine],
                name=_PHASE_NAMES[phase],
                # Left to plotly, bars of a rare phase are as wide as its steps are apart.
                width=0.85 if len(steps) <= 200 else 1,
                marker={"color": colour, "line": {"width": 0}},
                hovertemplate="step %{x}: %{y:.1f} ms<extra>" + _PHASE_NAMES[phase] + "</extra>",
            )
    if steps:
        middle = median(ms for _, ms, _ in steps)
        figure.add_scatter(
            x=[0.5, len(steps) + 0.5],
            y=[middle, middle],
            mode="lines",
            name=f"median {middle:.1f} ms",
            line={"color": ORANGE, "width": 2, "dash": "dash"},
            hoverinfo="skip",
        )
    figure.update_layout(
        barmode="overlay",
        **chart_layout("forward step", "milliseconds"),
    )
    return figure


def chart_layout(x_title: str, y_title: str) -> dict[str, Any]:
    """What all charts have in common: no fill, a legend above, both axes named."""
    axis: dict[str, Any] = {"gridcolor": _GRID, "zeroline": False, "automargin": True}
    return {
        "height": 320,
        "margin": {"l": 56, "r": 12, "t": 36, "b": 48},
        "paper_bgcolor": _NO_FILL,
        "plot_bgcolor": _NO_FILL,
        "font": {"color": "#777777"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": {**axis, "title": {"text": lines(x_title, 38)}},
        "yaxis": {**axis, "title": {"text": lines(y_title, 31)}, "rangemode": "tozero"},
    }


def legend_below(figure: go.Figure, x_title: str, y_title: str, height: int) -> None:
    """Lays out a chart with many names below it; height: without them, in pixels.

    The legend has room for the one column that it is on a phone.
    """
    for trace in figure.data:
        trace.name = lines(trace.name, 36)
    num_lines = sum(trace.name.count("<br>") + 1 for trace in figure.data)
    figure.update_layout(chart_layout(x_title, y_title))
    figure.update_layout(
        height=height + 18 * num_lines,
        margin={"t": 12},
        showlegend=True,
        legend={"xref": "container", "yref": "container", "y": 0, "maxheight": 1},
        yaxis={"rangemode": "normal"},
    )


def lines(text: str, length: int) -> str:
    """Words in lines of about so many characters, as plotly breaks them."""
    return "<br>".join(wrap(text, length, break_long_words=False, break_on_hyphens=False))
