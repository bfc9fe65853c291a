"""Tables of figures as HTML, and where the figures come from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from nbp_core.results import paper
from nbp_core.results.files import ResultFile, Value

PAPER_MARK, HERE_MARK = "\N{BLACK DIAMOND} paper", "\N{BLACK CIRCLE} here"


def number(value: Value) -> str:
    """A figure for people; '-' where there is none. Text is escaped."""
    if value is None:
        return "-"
    if isinstance(value, bool | str):
        return escape(str(value))
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls sideways on a phone; columns whose head bears a mark take its colour."""
    kinds = ["paper" if PAPER_MARK in h else "here" if HERE_MARK in h else "" for h in head]
    cells = "".join(
        f'<th scope="col" class="{k}">{h}</th>' for k, h in zip(kinds, head, strict=True)
    )
    body = ""
    for row in rows:
        marked = zip(kinds, row, strict=True)
        body += (
            "<tr>" + "".join(f'<td class="{kind}">{cell}</td>' for kind, cell in marked) + "</tr>"
        )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table>'
        f"<thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def source(of: paper.PaperTable[Any]) -> str:
    """Where the paper's figures stand and how they were measured there."""
    facts = "".join(f" {escape(fact)}" for fact in of.facts)
    return f'<p class="source">{PAPER_MARK}: {escape(of.source)}. {escape(of.setting)}.{facts}</p>'


def provenance(results: Iterable[ResultFile]) -> str:
    """What was measured here, on what, with which weights."""
    lines = [
        f"{escape(r.title)}, on {escape(r.device)}, weights {escape(r.weights)}, {escape(r.date)}"
        f" ({escape(r.name)})"
        for r in results
    ]
    return f'<p class="source">{HERE_MARK}: {"; ".join(lines)}.</p>' if lines else ""
