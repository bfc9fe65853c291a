"""Charts of a race: tokens over time, and what each step cost and made."""

from __future__ import annotations

from itertools import accumulate
from typing import Final

import numpy as np
import plotly.graph_objects as go

from app.compare.run import runner_name
from app.parts.charts import BLUE, GREEN, chart_layout
from nbp_core.generation.race import Race

# The lines differ in dash as well.
_COLOURS: Final = (GREEN, BLUE)
_DASHES: Final = ("dot", "solid")


def tokens_chart(race: Race) -> go.Figure:
    """Tokens made so far over the seconds since the start, a line for each runner."""
    figure = go.Figure()
    for runner, colour, dash in zip(race.runners, _COLOURS, _DASHES, strict=True):
        made = accumulate(map(len, runner.places))
        figure.add_scatter(
            x=[0.0, *runner.elapsed_s],
            y=[0, *made],
            mode="lines",
            name=runner_name(runner.block_shape),
            line={"color": colour, "dash": dash, "width": 2.5},
            hovertemplate="%{y:,} tokens after %{x:.2f} s<extra></extra>",
        )
    figure.update_layout(**chart_layout("seconds, tokenizer included", "tokens made so far"))
    return figure


def steps_chart(race: Race) -> go.Figure:
    """A bar for each step: as wide as the tokens it made, as high as the time it took."""
    figure = go.Figure()
    for runner, colour in zip(race.runners, _COLOURS, strict=True):
        widths = np.array([len(places) for places in runner.places])
        milliseconds = 1e3 * np.array(runner.generation.timings["per_step_s"])
        figure.add_bar(
            x=np.cumsum(widths) - widths / 2,
            y=milliseconds,
            width=widths,
            name=f"{runner_name(runner.block_shape)}: median {np.median(milliseconds):.1f} ms",
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate="%{y:.1f} ms<extra></extra>",
        )
    figure.update_layout(
        barmode="overlay",
        **chart_layout("tokens of the clip (each bar is one step)", "milliseconds per step"),
    )
    return figure
