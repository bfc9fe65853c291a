"""The words of "Over many clips" on the Attention tab: what was measured, what the parts are."""

from __future__ import annotations

from collections.abc import Sequence

from app import results_view
from nbp_core.results.files import ResultFile

COMMAND = "python -m nbp_core experiment attention --model weights/tiny --clips FOLDER --count 50"
_PARTS = (
    "Shares of a query's attention, of queries that make tokens of the second latent frame and"
    " later ones. A key counts once, as the first of: condition, BOV, middle token, the same place"
    " (height and width of the token that is made) in an earlier latent frame, the query's own"
    " block, the block before, the rest of the made token's latent frame, any other token. 'An"
    " even look' is what the shares would be if a query looked at all it sees alike."
)
_STRIPES = (
    "A vertical stripe, as in the paper's figure 14, is a key that at least half of the queries of"
    " later blocks (256 or more) give at least five times an even share; conditions and BOV are"
    " not counted."
)


def study_of(results: Sequence[ResultFile]) -> ResultFile | None:
    """The first file that was measured over many clips."""
    return next((result for result in results if result.kind == "attention"), None)


def study_text(result: ResultFile | None) -> str:
    """What the chart shows and how many stripes there are, as HTML."""
    if result is None:
        return f"<p>Nothing is measured yet. This does it:</p><pre>{COMMAND}</pre>"
    clips = max(int(str(row.get("clips", 0))) for row in result.rows)
    rows = [
        [
            results_view.number(row["block"]), f"layer {row['layer']}, head {row['head']}",
            results_view.number(row.get("stripes")), results_view.number(row["weight on stripes"]),
        ]
        for row in result.rows
        if row["layer"] and row.get("weight on stripes")
    ]  # fmt: skip
    head = ("read in blocks of", "head", "stripes a clip", "share of attention on them")
    table = results_view.table("Stripes", head, rows) if rows else "<p>No head has stripes.</p>"
    return (
        f'<div class="results">{results_view.provenance([result])}<p>Means over {clips} real'
        f" clips, read with their actions. {_PARTS}</p><p>{_STRIPES} Heads that are not listed have"
        f" none.</p>{table}</div>"
    )
