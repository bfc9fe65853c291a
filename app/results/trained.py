"""Experiments whose models were trained for them, on the Results tab: a table and two charts each.

The paper's figures stand in columns of their own and are in no chart of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import mean, stdev
from typing import Final

import plotly.graph_objects as go

from app.parts.charts import DASHES, OURS, legend_below, lines
from app.parts.tables import HERE_MARK, PAPER_MARK, Cell, cell, provenance, source, table
from nbp_core.config.shapes import format_block_shape
from nbp_core.results import paper
from nbp_core.results.files import ResultFile, Row

CHARTS: Final = ("loss at the end", "loss over the steps")
_PAPERS: Final[dict[str, paper.PaperTable[paper.BlockRow]]] = {
    "sizes": paper.FIGURE5,
    "trained-blocks": paper.FIGURE_6_7,
    "trained-shapes": paper.TABLE3,
    "pretrained": paper.CONTINUED,
}
HEIGHT: Final = 310


@dataclass(frozen=True, kw_only=True, slots=True)
class ArmFigures:
    """One model of an experiment over its seeds: the rows that tell of it, and their means."""

    arm: str
    rows: list[Row]

    def mean(self, key: str) -> float | None:
        """Mean over all seeds; None if a row lacks the figure."""
        values = self.values(key)
        return mean(values) if values and len(values) == len(self.rows) else None

    def values(self, key: str) -> list[float]:
        found = [row.get(key) for row in self.rows]
        return [float(value) for value in found if isinstance(value, int | float)]

    def spread(self, key: str, error: str) -> float | None:
        """Standard deviation over seeds; with one seed the standard error over held-out clips."""
        values = self.values(key)
        return stdev(values) if len(values) > 1 else self.mean(error)


def arms(file: ResultFile) -> list[ArmFigures]:
    """The models of a file, in its order."""
    names = dict.fromkeys(str(row["arm"]) for row in file.rows)
    return [ArmFigures(arm=n, rows=[r for r in file.rows if r["arm"] == n]) for n in names]


def chart(file: ResultFile, which: str) -> go.Figure:
    """One of CHARTS, with our figures alone."""
    figure = go.Figure()
    if which == CHARTS[0]:
        _ends(figure, file)
        titles = "model, blocks it is measured in", "nats per token, without latent frame 1"
    else:
        _curves(figure, file)
        titles = "step", "validation loss, nats per token"
    legend_below(figure, *titles, HEIGHT)
    return figure


def _ends(figure: go.Figure, file: ResultFile) -> None:
    found = arms(file)
    names = {arm.arm: lines(arm.arm, 12) for arm in found}
    spreads = [arm.spread("loss_later", "loss_error") or 0 for arm in found]
    figure.add_scatter(
        x=list(names.values()),
        y=[arm.mean("loss_later") for arm in found],
        error_y={"type": "data", "array": spreads},
        mode="markers",
        name=f"measured here: mean and {_spread_name(found)}",
        marker={"color": OURS[0], "size": 11},
        hovertemplate="%{x}: %{y:.4f}<extra></extra>",
    )
    if any(len(arm.rows) > 1 for arm in found):
        figure.add_scatter(
            x=[names[arm.arm] for arm in found for _ in arm.values("loss_later")],
            y=[value for arm in found for value in arm.values("loss_later")],
            mode="markers",
            name="measured here: each seed",
            marker={"color": OURS[2], "size": 7, "symbol": "x"},
            hovertemplate="%{x}: %{y:.4f}<extra></extra>",
        )


def _curves(figure: go.Figure, file: ResultFile) -> None:
    rows = [row for row in file.more.get("curves", ()) if _is_point(row)]
    for index, name in enumerate(dict.fromkeys(str(row.get("arm")) for row in rows)):
        mine = [row for row in rows if row.get("arm") == name]
        steps = list(dict.fromkeys(row["step"] for row in mine))
        values = [[r["loss"] for r in mine if r["step"] == step] for step in steps]
        figure.add_scatter(
            x=steps,
            y=[mean(float(str(v)) for v in of_step) for of_step in values],
            name=name,
            mode="lines+markers",
            line={"color": OURS[index % len(OURS)], "dash": DASHES[index % len(DASHES)]},
            hovertemplate="step %{x}: %{y:.4f}<extra>" + escape(name) + "</extra>",
        )


def _is_point(row: Row) -> bool:
    """A row without its step or its loss, as of a run that was torn, is in no curve."""
    return all(isinstance(row.get(key), int | float) for key in ("step", "loss"))


def _spread_name(found: Sequence[ArmFigures]) -> str:
    seeds = max(len(arm.rows) for arm in found)
    return f"deviation of {seeds} seeds" if seeds > 1 else "error over held-out clips, one seed"


def view(file: ResultFile) -> str:
    """An experiment's table: ours, what the paper reports of the same block, and the difference."""
    theirs = _PAPERS.get(Path(file.name).stem)
    known = {format_block_shape(r.block_shape): r for r in theirs.rows} if theirs else {}
    head = [
        "model, blocks", "seeds", f"loss<br>{HERE_MARK}", f"without latent frame 1<br>{HERE_MARK}",
        f"±<br>{HERE_MARK}", f"difference<br>{HERE_MARK}", f"±<br>{HERE_MARK}", "against",
        f"frames/s of<br>processor time {HERE_MARK}", f"frames/s<br>{HERE_MARK}",
    ]  # fmt: skip
    head += [f"FVD<br>{PAPER_MARK}", f"frames/s<br>{PAPER_MARK}"] if known else []
    rows: list[list[Cell]] = []
    found = arms(file)
    for arm in found:
        cells: list[Cell] = [
            escape(arm.arm), str(len(arm.rows)), _nats(arm.mean("loss")),
            _nats(arm.mean("loss_later")), _nats(arm.spread("loss_later", "loss_error")),
            _nats(arm.mean("difference")), _nats(arm.spread("difference", "difference_error")),
            cell(arm.rows[0].get("against")),
            arm.mean("frames_cpu_s"), arm.mean("frames_s"),
        ]  # fmt: skip
        if known:
            paper_row = known.get(str(arm.rows[0]["block"]))
            cells += [paper_row.fvd, paper_row.fps] if paper_row else [None, None]
        rows.append(cells)
    note = (
        f"<p>Losses in nats per token; 'without latent frame 1' leaves the first one out, whose"
        f" first block every model makes token by token. ± is {_spread_name(found)}. All models of"
        " a file have seen the same clips; they are small and were trained briefly, so compare"
        " trends with the paper's, never values.</p>"
    )
    return (
        table(file.title, head, rows)
        + (source(theirs) if theirs else "")
        + provenance([file])
        + note
    )


def _nats(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
