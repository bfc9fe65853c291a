"""The tables of the Results tab, as HTML: the paper's figures and those measured here, told apart.

Whatever a results file says is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from app.clips.run import Outcome
from app.jobs import JobView
from app.parts.tables import HERE_MARK, PAPER_MARK, Cell, cell, provenance, source, table
from nbp_core.config.shapes import FIGURE6_SHAPES, TABLE3_SHAPES, format_block_shape
from nbp_core.results import paper
from nbp_core.results.files import ResultFile, Value

PREDICTED_FRAMES = 12
"""Frames that the paper's K600 task predicts, after five given ones."""
TITLES: Final = {
    "table1": f"Table 1: {paper.TABLE1.title.lower()}",
    "blocks": "Figures 6 and 7, table 3: by block shape",
    "floor": "How close each step is to the hardware limit",
    "table2": f"Table 2: {paper.TABLE2.title.lower()}",
    "table7": "Table 7: tokenizer reconstruction quality",
    "experiments": "Experiments",
    "training": "Training",
    "session": "Runs of this session",
    "repeat": "How to reproduce each number",
}
"""The parts of the tab, by the ends of their ids."""
BENCH = "python -m nbp_core bench --presets XL --out results/bench.json"


SMALL_WEIGHTS = ("int8", "int4")
MOST_ROWS: Final = 500
"""Rows of a file that the page shows: a browser stands still for minutes over 100,000."""


@dataclass(frozen=True, slots=True)
class Speed:
    """Speed of the paper's task, measured here, and the file that says it."""

    fps: float
    steps: Value
    file: ResultFile


def speeds_here(results: Sequence[ResultFile]) -> dict[tuple[str, str], Speed]:
    """(size, block) -> speed of the paper's task, measured here.

    From a table1 file, else from a bench's k600 rows, which time the model without its tokenizer.
    Smaller weights (int8, int4) are left out: the paper's are of 16 bits.
    """
    found: dict[tuple[str, str], Speed] = {}
    for result in results:
        for row in result.rows:
            is_small = row.get("weight_format") in SMALL_WEIGHTS
            if result.kind == "bench" and row["protocol"] == "k600" and not is_small:
                total = row["total_s"]
                if isinstance(total, int | float) and total > 0:
                    size = str(row["model"]).partition(" ")[0]
                    key = (size, str(row["block"]))
                    found.setdefault(key, Speed(PREDICTED_FRAMES / total, row["num_steps"], result))
    for result in results:
        for row in result.rows:
            fps = row.get("fps")
            if result.kind == "table1" and isinstance(fps, int | float):
                found[str(row["model"]), str(row["block"])] = Speed(fps, row["steps"], result)
    return found


def table1(results: Sequence[ResultFile]) -> str:
    """Table 1 of the paper with what was measured here beside it."""
    here = speeds_here(results)
    fvd = {
        (str(row["model"]), str(row["block"])): row.get("fvd")
        for result in results
        if result.kind == "table1"
        for row in result.rows
    }
    head = (
        "size", "method", "block", f"steps<br>{PAPER_MARK}", f"steps<br>{HERE_MARK}",
        f"FVD<br>{PAPER_MARK}", f"FVD<br>{HERE_MARK}",
        f"frames/s<br>{PAPER_MARK}", f"frames/s<br>{HERE_MARK}",
    )  # fmt: skip
    rows = []
    for row in paper.TABLE1.rows:
        block = format_block_shape(row.block_shape)
        speed = here.get((row.preset, block))
        rows.append(
            (
                f"{row.preset}, {row.size}", row.method, block, row.steps,
                cell(speed.steps if speed else None), row.fvd,
                cell(fvd.get((row.preset, block))), row.fps, speed.fps if speed else None,
            )
        )  # fmt: skip
    sizes = {row.preset for row in paper.TABLE1.rows}
    used = {speed.file.name: speed.file for (size, _), speed in here.items() if size in sizes}
    if used:
        note = (
            f"{provenance(used.values())}<p>Frames per second of a bench are for the model alone,"
            f" with random weights and without its tokenizer: {PREDICTED_FRAMES} frames divided by"
            " the time of all steps. FVD needs the released weights and the videos of"
            " Kinetics-600.</p>"
        )
    else:
        note = (
            "<p>Not measured here yet. To measure the speed of size XL, with random weights and"
            " without the tokenizer, run the command below. FVD needs the released weights and the"
            f" videos of Kinetics-600.</p><pre>{BENCH}</pre>"
        )
    title = TITLES["table1"]
    return f"<h2>{title}</h2>{table(title, head, rows)}{source(paper.TABLE1)}{note}"


def table2() -> str:
    """Table 2 of the paper: nothing here can be measured beside it."""
    head = ("data", "method", "size", f"steps<br>{PAPER_MARK}", f"FVD<br>{PAPER_MARK}")
    rows = [
        (row.data, row.method, row.size or None, row.steps, row.fvd) for row in paper.TABLE2.rows
    ]
    return (
        f"{table(TITLES['table2'], head, rows)}{source(paper.TABLE2)}<p>Not measured here."
        " FVD on these data sets needs their videos and the released weights.</p>"
    )


def by_block(results: Sequence[ResultFile]) -> str:
    """Figures 6 and 7 and table 3 of the paper, and whole clips timed here."""
    shapes = dict.fromkeys(FIGURE6_SHAPES + TABLE3_SHAPES)
    known = [*paper.FIGURE_6_7.rows, *paper.TABLE3.rows]
    fvd = {row.block_shape: row.fvd for row in known if row.fvd is not None}
    fps = {row.block_shape: row.fps for row in known if row.fps is not None}
    here: dict[str, dict[str, Value]] = {}
    benches = [r for r in results if r.kind == "bench" and r.more.get("clips")]
    for result in benches:
        for clip in result.more["clips"]:
            name = f"{clip.get('model')} ({clip.get('weights')}) on {result.device}"
            here.setdefault(name, {})[str(clip.get("block"))] = clip.get("frames_s")
    head = ["block", f"FVD<br>{PAPER_MARK}", f"frames/s<br>{PAPER_MARK}"]
    head += [f"frames/s, {escape(name)}<br>{HERE_MARK}" for name in here]
    rows = [
        [
            format_block_shape(shape), fvd.get(shape), fps.get(shape),
            *(cell(speeds.get(format_block_shape(shape))) for speeds in here.values()),
        ]
        for shape in shapes
    ]  # fmt: skip
    if here:
        note = (
            f"{provenance(benches)}<p>Frames per second measured here are for whole clips of 17"
            " frames from an action, or from five frames by models without actions, tokenizer"
            " included.</p>"
        )
    else:
        note = f"<p>Not measured here yet. To time every model, run:</p><pre>{BENCH}</pre>"
    sources = source(paper.FIGURE_6_7) + source(paper.TABLE3)
    return f"{table(TITLES['blocks'], head, rows)}{sources}{note}"


def table7(results: Sequence[ResultFile]) -> str:
    """Table 7 of the paper, and tokenizers measured here in rows of their own."""
    head = ("from", "tokenizer", "data", "PSNR, dB", "SSIM", "rFVD", "LPIPS")
    rows: list[tuple[Cell, ...]] = [
        (
            f'<span class="paper">{PAPER_MARK}</span>', escape(row.tokenizer), row.data,
            row.psnr, row.ssim, row.rfvd, row.lpips,
        )
        for row in paper.TABLE7.rows
    ]  # fmt: skip
    used = [result for result in results if result.kind == "tokenizer"]
    rows += [
        (
            f'<span class="here">{HERE_MARK}</span>', cell(row["tokenizer"]), cell(row["data"]),
            cell(row["psnr"]), cell(row.get("ssim")), cell(row.get("rfvd")),
            cell(row.get("lpips")),
        )
        for result in used
        for row in result.rows
    ]  # fmt: skip
    note = provenance(used) or (
        "<p>Not measured here yet. The Tokenizer tab measures single clips. The model card of a"
        " tokenizer, on the Models tab, has the figures of its training.</p>"
    )
    return f"{table(TITLES['table7'], head, rows)}{source(paper.TABLE7)}{note}"


def session_runs(views: Sequence[JobView]) -> str:
    """The clips generated since the studio was started, newest first."""
    head = ("clip", "steps", "new frames", "seconds per clip", f"frames/s<br>{HERE_MARK}")
    rows = [
        _run_row(view.result)
        for view in views
        if isinstance(view.result, Outcome) and not view.is_earlier
    ]
    if not rows:
        return "<p>No runs yet. Make a clip on the Generate tab.</p>"
    return (
        f"{table('Runs of this session', head, rows)}<p>Times include the tokenizer. Clips that"
        " were made in one batch share its time equally. Other work may have run on this machine"
        " meanwhile.</p>"
    )


def _run_row(outcome: Outcome) -> tuple[Cell, ...]:
    seconds = outcome.seconds / outcome.num_together
    return (
        escape(outcome.clip.stem), len(outcome.phases), outcome.new_frames, seconds,
        outcome.new_frames / max(seconds, 1e-9),
    )  # fmt: skip


def repeat(results: Sequence[ResultFile], faults: Sequence[str]) -> str:
    """Every file of figures with its command and rows, and the files that are broken."""
    text = "".join(f'<p class="fault">{escape(fault)}</p>' for fault in faults)
    if not results:
        return text + (
            "<p>Figures are read from results/*.json beside the studio; docs/results.md describes"
            f" the format. There are none yet. To make the first, run:</p><pre>{BENCH}</pre>"
        )
    for result in results:
        count, shown = len(result.rows), result.rows[:MOST_ROWS]
        columns = list(dict.fromkeys(key for row in shown for key in row))
        rows = [[cell(row.get(column)) for column in columns] for row in shown]
        which = f"All {count}" if len(rows) == count else f"The first {len(rows)} of {count:,}"
        text += (
            f"{provenance([result])}<pre>{escape(result.command)}</pre><details><summary>{which}"
            " rows</summary>"
            f"{table(result.name, [escape(column) for column in columns], rows)}</details>"
        )
    return text
