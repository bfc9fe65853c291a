"""Figures by block shape that are kept with the project: results/*.json of kind bench or blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nbp_core.config.shapes import Size3, parse_block_shape
from nbp_core.results.files import ResultFile, Row, read_results

FIGURES: Final = {
    "frames_s": "frames per second, tokenizer included",
    "fvd": "FVD, lower is better",
    "loss": "validation loss, lower is better",
}
"""Figures that a file may hold per block shape, with their names on the page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredFigures:
    """The figures of one model in one results file."""

    model: str
    weights: str
    file: ResultFile
    by_shape: dict[str, dict[Size3, float]]
    """For each key of FIGURES that is there, the figure of each block shape."""

    @property
    def title(self) -> str:
        """Which model, where or in which experiment, and when."""
        file = self.file
        where = f" on {file.device}" if file.kind == "bench" else f", {file.title}"
        return f"{self.model}{where}, {file.date}"


def stored(folder: Path) -> list[StoredFigures]:
    """The figures by block shape in a folder. The Results tab names broken files."""
    return [figures for file in read_results(folder)[0] for figures in _of_file(file)]


def _of_file(file: ResultFile) -> Iterator[StoredFigures]:
    # A bench's rows are single steps; its clips are whole ones.
    rows = {"bench": file.more.get("clips", ()), "blocks": file.rows}.get(file.kind, ())
    models = dict.fromkeys(
        (str(row.get("model")), str(row.get("weights", file.weights))) for row in rows
    )
    for model, weights in models:
        mine = [
            row for row in rows
            if (str(row.get("model")), str(row.get("weights", file.weights))) == (model, weights)
        ]  # fmt: skip
        by_shape = {key: values for key in FIGURES if (values := _values(mine, key))}
        if by_shape:
            yield StoredFigures(model=model, weights=weights, file=file, by_shape=by_shape)


def _values(rows: list[Row], key: str) -> dict[Size3, float]:
    values = {}
    for row in rows:
        value = row.get(key)
        try:
            shape = parse_block_shape(str(row.get("block")))
        except ValueError:
            continue
        if isinstance(value, int | float):
            values[shape] = float(value)
    return values
