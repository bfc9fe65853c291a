"""Tables of figures as HTML, and where the figures come from."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from nbp_core.results import paper
from nbp_core.results.files import ResultFile, Value

Cell = str | int | float | None
"""Text is HTML already; a number is written like the others of its column; None is no figure."""
PAPER_MARK = "\N{BLACK DIAMOND}\N{NO-BREAK SPACE}paper"
HERE_MARK = "\N{BLACK CIRCLE}\N{NO-BREAK SPACE}here"


def number(value: Value) -> str:
    """A figure for people; '-' where there is none. Text is escaped."""
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return escape(str(value))
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def cell(value: Value) -> Cell:
    """A value of a results file as a cell of a table: text is escaped, numbers stay numbers."""
    return escape(str(value)) if isinstance(value, bool | str) else value


def decimals(values: Iterable[float]) -> int:
    """Places after the point that suit a whole column: three figures of the largest value, at
    least one of the smallest, four places at most."""
    sizes = [abs(value) for value in values if value]
    if not sizes:
        return 0
    largest, smallest = (math.floor(math.log10(size)) for size in (max(sizes), min(sizes)))
    return max(0, min(4, max(2 - largest, -smallest)))


def column(cells: Sequence[Cell]) -> list[str]:
    """The cells of one column as HTML, all numbers with equally many places."""
    numbers = [value for value in cells if isinstance(value, int | float)]
    places = decimals(numbers) if any(isinstance(value, float) for value in numbers) else 0
    return [
        value if isinstance(value, str) else "-" if value is None else f"{value:,.{places}f}"
        for value in cells
    ]


def _is_figure(value: Cell) -> bool:
    return isinstance(value, int | float) or bool(
        value and re.fullmatch(r"-?[\d,]+(\.\d+)?", value)
    )


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table that scrolls sideways on a phone.

    Numbers stand at the right with equally many places; a column without any figure is left out;
    columns whose head bears a mark take its colour.
    """
    columns = list(zip(*rows, strict=True)) or [()] * len(head)
    cells, heads = [], ""
    for title, values in zip(head, columns, strict=True):
        if values and all(value in (None, "-") for value in values):
            continue
        is_number = any(map(_is_figure, values))
        mark = "paper" if PAPER_MARK in title else "here" if HERE_MARK in title else ""
        kind = " ".join(filter(None, (mark, "number" if is_number else "")))
        heads += f'<th scope="col" class="{kind}">{title}</th>'
        cells.append([f'<td class="{kind}">{text}</td>' for text in column(values)])
    body = "".join(f"<tr>{''.join(row)}</tr>" for row in zip(*cells, strict=True))
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def source(of: paper.PaperTable[Any]) -> str:
    """Where the paper's figures stand and how they were measured there."""
    facts = "".join(f" {escape(fact)}" for fact in of.facts)
    setting = escape(of.setting[:1].upper() + of.setting[1:])
    return f'<p class="source">{PAPER_MARK}: {escape(of.source)}. {setting}.{facts}</p>'


def provenance(results: Iterable[ResultFile]) -> str:
    """Where figures come from: the device, the weights and the date, as HTML."""
    lines = [
        f"{escape(r.title)}, on {escape(r.device)}, {escape(_weights(r))}, {escape(r.date)}"
        f" ({escape(r.name)})"
        for r in results
    ]
    return f'<p class="source">{HERE_MARK}: {"; ".join(lines)}.</p>' if lines else ""


def _weights(result: ResultFile) -> str:
    """The weights of a file, or those that its rows name."""
    named = dict.fromkeys(str(row["weights"]) for row in result.rows if row.get("weights"))
    words = ", ".join(named) or result.weights
    return words if words.startswith("random weights") else f"weights {words}"
