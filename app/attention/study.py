"""The words of "Over many clips" on the Attention tab: what was measured, what the parts are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Final

import plotly.graph_objects as go

from app.parts.charts import COLOURS, legend_below
from app.parts.tables import cell, provenance, table
from nbp_core.results.files import ResultFile, Row

COMMAND = "python -m nbp_core experiment attention --model weights/tiny --clips FOLDER --count 25"
_PARTS = (
    "A bar shows where the attention of a query goes, averaged over all queries that predict tokens"
    " of the second latent frame or later. Each key counts once, in the first group that fits:"
    " condition, begin of video (BOV), middle token (a placeholder), same row and column in an"
    " earlier latent frame, the query's own block, the block before, the rest of the predicted"
    " token's latent frame, any other token. 'Uniform attention' shows the shares of a query that"
    " gives every visible key the same weight."
)
_STRIPES = (
    "A vertical stripe, as in the paper's figure 14, is a key to which at least half of the queries"
    " of later blocks (256 or more) give at least five times a uniform share. Conditions and BOV"
    " are not counted."
)
NAMED: Final = {
    "same place, earlier frames": "looks at its own place in earlier frames",
    "own block": "looks within its own block",
    "stripes": "vertical stripes, as in figure 14",
}


def study_of(results: Sequence[ResultFile], model: str | None) -> ResultFile | None:
    """A file that was measured over many clips, with the rows of one model: the named one if it was
    measured, else the first."""
    studies = [result for result in results if result.kind == "attention" and result.rows]
    for study in studies:
        if rows := tuple(row for row in study.rows if row["model"] == model):
            return replace(study, rows=rows)
    return study_of(studies, str(studies[0].rows[0]["model"])) if studies else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Find:
    """A head worth a look, named by what it does; layer and head are counted from 1."""

    layer: int
    head: int
    words: str


def finds(
    results: Sequence[ResultFile], model: str, block: str, fingerprint: str = ""
) -> list[Find]:
    """The heads of a model that do each of NAMED most, as measured over many clips.

    fingerprint: of the model's weights. What was measured with others says nothing of their heads.
    """
    rows = [
        row
        for result in results
        if result.kind == "attention" and _may_be_of(result.weights, model, fingerprint)
        for row in result.rows
        if row["layer"] and (row["model"], row["block"]) == (model, block)
    ]
    found = []
    for part, words in NAMED.items():
        measured = [(value, row) for row in rows if isinstance(value := row.get(part), int | float)]
        value, row = max(measured, key=lambda one: one[0], default=(0, None))
        if row is not None and value > 0:
            layer, head = int(str(row["layer"])), int(str(row["head"]))
            amount = f"{value:.0f} per clip" if part == "stripes" else f"{value:.0%}"
            name = f"Layer {layer}, head {head}: {words} ({amount})"
            found.append(Find(layer=layer, head=head, words=name))
    return found


def _may_be_of(weights: str, model: str, fingerprint: str) -> bool:
    """Whether a file's words on weights, 'tiny ddd83d96; small 833531a4', name these weights of a
    model, or none of it."""
    named = re.search(rf"(?:^|; ){re.escape(model)} ([0-9a-f]{{8}})(?:$|;)", weights)
    return named is None or not fingerprint or fingerprint.startswith(named[1])


def study_text(result: ResultFile | None) -> str:
    """What the chart shows and how many stripes there are, as HTML."""
    if result is None:
        return f"<p>Not measured yet. To measure it, run:</p><pre>{COMMAND}</pre>"
    clips = max(int(str(row.get("clips") or 0)) for row in result.rows)
    rows = [
        [
            cell(row["block"]), f"layer {row['layer']}, head {row['head']}",
            cell(row.get("stripes")), cell(row["weight on stripes"]),
        ]
        for row in result.rows
        if row["layer"] and row.get("weight on stripes")
    ]  # fmt: skip
    head = ("block shape", "head", "stripes per clip", "share of attention")
    stripes = table("Stripes", head, rows) if rows else "<p>No head has stripes.</p>"
    model = escape(str(result.rows[0]["model"]))
    return (
        f'<div class="results">{provenance([result])}<p>Heads of {model}. Means over {clips} real'
        f" clips, read with their actions. {_PARTS}</p><p>{_STRIPES} Heads that are not listed have"
        f" none.</p>{stripes}</div>"
    )


EVEN: Final = "uniform attention"


_NO_SHARE: Final = {
    "layer",
    "head",
    "clips",
    "own block, deviation",
    "stripes",
    "weight on stripes",
}


def attention_chart(result: ResultFile) -> go.Figure:
    """A bar of shares for each head, and one of uniform attention, for each kind of block."""
    figure = go.Figure()
    rows = [*reversed(result.rows)]
    labels = [[str(row["block"]) for row in rows], [_head_words(row) for row in rows]]
    parts = dict.fromkeys(key for row in result.rows for key in row if isinstance(row[key], float))
    for index, part in enumerate(part for part in parts if part not in _NO_SHARE):
        figure.add_bar(
            y=labels,
            x=[row.get(part) for row in rows],
            name=part,
            orientation="h",
            marker={"color": COLOURS[index % len(COLOURS)], "line": {"width": 0}},
            hovertemplate="%{x:.1%}<extra>" + part + "</extra>",
        )
    legend_below(figure, "share of attention", "", 100 + 22 * len(rows))
    figure.update_layout(barmode="stack", bargap=0.15)
    figure.update_xaxes(tickformat=".0%", range=[0, 1])
    return figure


def _head_words(row: Row) -> str:
    return EVEN if not row["layer"] else f"layer {row['layer']}, head {row['head']}"
