"""A bench on the Results tab: steps against the floor, memory, smaller weights, other programs."""

from __future__ import annotations

from collections.abc import Sequence

from app.parts.tables import HERE_MARK, Cell, cell, provenance, table
from nbp_core.results.files import ResultFile, Row, Value

SHOWN_BLOCKS = ("1x1x1", "1x1x16", "1x16x16")
"""The whole table stands under 'How to reproduce each number'."""
_EXPLAINED = (
    "<p>The limit of a step is the longer of two times: reading all weights and the cache once, or"
    " doing all multiplications, both at the rates measured on that machine. A ratio below 1 means"
    " that the rate measured was not the machine's best. Steps are those after two given latent"
    " frames: the model and the sampling, without the tokenizer.</p>"
)

_OTHERS = {
    "transformers": (
        "Hugging Face transformers",
        "The same next-token model with random weights. This engine and Hugging Face transformers"
        " were timed in turn:",
    ),
    "released": (
        "the released sampling procedure",
        "Decode steps after two known latent frames, with random weights. This engine and the"
        " released sampling procedure (rewritten in plain PyTorch from its description) were timed"
        " in turn:",
    ),
}
"""Other programs that a bench is timed against: name, and what the table says."""


def floor_section(results: Sequence[ResultFile]) -> str:
    """Every bench that says a floor; nothing where there is none."""
    benches = [r for r in results if r.kind == "bench" and any("floor_ms" in row for row in r.rows)]
    if not benches:
        return ""
    text = _EXPLAINED
    for result in benches:
        text += f"{_steps(result)}{_losses(result)}{_against(result)}{provenance([result])}"
    return text


def _steps(result: ResultFile) -> str:
    head = (
        "model", "weights", "weight format", "block", f"step, ms<br>{HERE_MARK}",
        f"limit, ms<br>{HERE_MARK}", "x the limit", "limited by", "tokens/s", "peak memory, GB",
    )  # fmt: skip
    rows = [
        (
            str(cell(row["model"])).partition(" (")[0], cell(row["weights"]),
            cell(row.get("weight_format")), cell(row["block"]), cell(row["step_ms"]),
            cell(row.get("floor_ms")), cell(row.get("ratio")), cell(row.get("bound")),
            cell(row.get("tokens_s")), _gigabytes(row),
        )
        for row in result.rows
        if row["block"] in SHOWN_BLOCKS and row["protocol"] == "k600"
    ]  # fmt: skip
    return table(f"Steps and the hardware limit in {result.name}", head, rows)


def _gigabytes(row: Row) -> float | None:
    peak: Value = row.get("peak_bytes")
    return peak / 1e9 if isinstance(peak, int | float) else None


def _losses(result: ResultFile) -> str:
    rows = [
        (
            cell(row.get("model")), cell(row.get("weight_format")), cell(row.get("clips")),
            _exact(row.get("plain_loss")), _exact(row.get("loss")),
        )
        for row in result.more.get("losses", ())
    ]  # fmt: skip
    head = ("model", "weight format", "clips", "loss at full precision", "loss quantised")
    if not rows:
        return ""
    caption = f"Quality loss from quantisation in {result.name}"
    return f"<p>Quality loss from quantisation, in nats per token:</p>{table(caption, head, rows)}"


def _exact(value: Value) -> Cell:
    """Losses differ in the fourth place."""
    return f"{value:.4f}" if isinstance(value, float) else cell(value)


def _against(result: ResultFile) -> str:
    found = result.more.get("against", ())
    head = (
        "model", "block", "our format", "ours, ms", "their format", "theirs, ms", "times faster",
    )  # fmt: skip
    text = ""
    for other, (name, explained) in _OTHERS.items():
        rows = [
            (
                cell(row.get("model")), cell(row.get("block")), cell(row.get("our_format")),
                cell(row.get("our_ms")), cell(row.get("their_dtype")), cell(row.get("their_ms")),
                cell(row.get("ratio")),
            )
            for row in found if row.get("other") == other
        ]  # fmt: skip
        if rows:
            caption = f"Steps here and in {name} in {result.name}"
            text += f"<p>{explained}</p>{table(caption, head, rows)}"
    return text
