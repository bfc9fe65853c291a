"""Reads the measured figures in results/*.json and results/training/*.jsonl.

Input: untrusted files. Output: checked ResultFiles and Curves, or one sentence that names the file.
docs/results.md describes both formats.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, TypeVar

from nbp_core.config.json import reason
from nbp_core.media.files import printable_name

Value = str | int | float | bool | None
Row = dict[str, Value]
Read = TypeVar("Read")

MAX_BYTES = 20_000_000
LARGEST = 1e300
"""Largest number of a row."""
COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "table1": ("model", "method", "block", "steps", "fps"),
    "bench": ("model", "weights", "block", "protocol", "num_steps", "step_ms", "total_s"),
    "blocks": ("model", "block"),
    "tokenizer": ("tokenizer", "data", "psnr"),
    "evaluation": ("metric", "of", "value", "clips"),
    "attention": ("model", "block", "layer", "head"),
    "longer": ("model", "block", "window"),
    "trained": ("arm", "seed", "block", "steps", "loss", "loss_later"),
}
"""The columns that each row of a kind must have; more are allowed."""
_TEXTS: Final = frozenset(
    {"arm", "block", "data", "method", "metric", "model", "of", "protocol", "tokenizer", "weights"}
)
"""Columns that hold text wherever they are."""
_COUNTS: Final = frozenset({"clips", "head", "layer", "window"})
"""Columns that hold whole numbers from 0 on."""
_HEAD = ("title", "kind", "device", "weights", "date", "command")


class ResultError(ValueError):
    """A result file that cannot be used. The message is one sentence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResultFile:
    """One measurement: its figures, device, weights, and the command that repeats it."""

    name: str
    title: str
    kind: str
    device: str
    weights: str
    date: str
    command: str
    rows: tuple[Row, ...]
    more: dict[str, tuple[Row, ...]]
    """Further lists of rows, such as the `clips` of a bench."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Curve:
    """The log of a training run: (step, value) pairs for each metric."""

    name: str
    metrics: dict[str, tuple[tuple[int, float], ...]]
    minutes: float


def read_results(folder: Path) -> tuple[list[ResultFile], list[str]]:
    """(results in a folder, one sentence per broken file), ordered by file name."""
    return _read_all(sorted(folder.glob("*.json")), read_result)


def read_curves(folder: Path) -> tuple[list[Curve], list[str]]:
    """(training runs in a folder, one sentence per broken file)."""
    return _read_all(sorted(folder.glob("*.jsonl")), read_curve)


def _read_all(paths: Sequence[Path], read: Callable[[Path], Read]) -> tuple[list[Read], list[str]]:
    good, faults = [], []
    for path in paths:
        try:
            good.append(_read_once(read, path, _stamp(path)))
        except ResultError as error:
            faults.append(str(error))
    return good, faults


@lru_cache(maxsize=256)
def _read_once(read: Callable[[Path], Read], path: Path, stamp: tuple[int, int]) -> Read:
    """The content of a file, or its fault; read again only if the file has changed."""
    return read(path)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError:
        return 0, 0  # read_result reports why
    return stat.st_mtime_ns, stat.st_size


def read_result(path: Path) -> ResultFile:
    """Reads a result file. Raises ResultError if it is broken."""
    name = printable_name(path)
    data = _parse(name, _text(path))
    if not isinstance(data, dict):
        raise ResultError(f"{name} is not an object with a title, a kind and rows.")
    for key in _HEAD:
        if not isinstance(data.get(key), str) or not data[key].strip():
            raise ResultError(f"{name} has no {key}.")
    if data["kind"] not in COLUMNS:
        kinds = ", ".join(COLUMNS)
        raise ResultError(f"{name} is of kind {data['kind']!r}, not one of {kinds}.")
    try:
        date.fromisoformat(data["date"])
    except ValueError as error:
        raise ResultError(f"{name} has a date that is not like 2026-01-31.") from error
    rows = _rows(name, "rows", data.get("rows"), COLUMNS[data["kind"]])
    if not rows:
        raise ResultError(f"{name} has no rows.")
    more = {
        key: _rows(name, key, value, ())
        for key, value in data.items()
        if key != "rows" and isinstance(value, list)
    }
    head = {key: data[key] for key in _HEAD}
    return ResultFile(name=name, rows=rows, more=more, **head)


def read_curve(path: Path) -> Curve:
    """Reads a metrics.jsonl file of the trainer. Raises ResultError if it is broken.

    A last line that was cut is left out: it is still being written, or its run was killed.
    """
    metrics: dict[str, list[tuple[int, float]]] = {}
    name, seconds = printable_name(path), 0.0
    lines = [line for line in _whole_lines(_text(path)) if line.strip()]
    for number, line in enumerate(lines, 1):
        row = _parse(f"Line {number} of {name}", line)
        if not isinstance(row, dict) or not isinstance(row.get("step"), int):
            raise ResultError(f"Line {number} of {name} has no step.")
        _check_row(f"Line {number} of {name}", row)
        for key, value in row.items():
            if key not in ("step", "elapsed") and isinstance(value, (int, float)):
                metrics.setdefault(key, []).append((row["step"], float(value)))
        elapsed = row.get("elapsed")
        seconds = elapsed if isinstance(elapsed, (int, float)) else seconds
    if not metrics:
        raise ResultError(f"{name} holds no metrics.")
    return Curve(
        name=Path(name).stem,
        metrics={key: tuple(points) for key, points in metrics.items()},
        minutes=seconds / 60,
    )


def _whole_lines(text: str) -> list[str]:
    lines = text.splitlines()
    if not text.endswith("\n"):
        try:
            json.loads(lines[-1])
        except (ValueError, RecursionError, IndexError):
            return lines[:-1]
    return lines


def _text(path: Path) -> str:
    name = printable_name(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ResultError(f"{name} is larger than {MAX_BYTES // 1_000_000} MB.")
        return path.read_text()
    except OSError as error:
        raise ResultError(f"{name} cannot be read: {reason(error)}.") from error
    except UnicodeDecodeError as error:
        raise ResultError(f"{name} is not text.") from error


def _parse(what: str, text: str) -> Any:
    try:
        value = json.loads(text)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ResultError(f"{what} has half a character, such as \\ud800.") from error
    except (ValueError, RecursionError) as error:
        raise ResultError(f"{what} is not JSON.") from error
    return value


def _rows(name: str, key: str, value: Any, columns: tuple[str, ...]) -> tuple[Row, ...]:
    if not isinstance(value, list):
        raise ResultError(f"{name} has no rows.")
    for number, row in enumerate(value, 1):
        what = f"Row {number} of {key} in {name}"
        if not isinstance(row, dict):
            raise ResultError(f"{what} is not an object.")
        missing = [column for column in columns if row.get(column) is None]
        if missing:
            raise ResultError(f"{what} has no {missing[0]}.")
        _check_row(what, row)
        _check_kinds(what, row)
    return tuple(value)


def _check_kinds(what: str, row: Row) -> None:
    """Refuses other values in the columns by which rows are told apart; null is no value."""
    for key, value in row.items():
        if key in _TEXTS and not isinstance(value, str | None):
            raise ResultError(f"{what} has a {key} that is not text.")
        is_count = type(value) is int and value >= 0
        if key in _COUNTS and value is not None and not is_count:
            raise ResultError(f"{what} has a {key} that is not a whole number from 0 on.")


def _check_row(what: str, row: dict[str, Any]) -> None:
    """Refuses values other than text, booleans, null and finite numbers."""
    for key, value in row.items():
        is_number = isinstance(value, (int, float))
        # A whole number may have more digits than a float can hold.
        if is_number and not -LARGEST <= value <= LARGEST:
            raise ResultError(f"{what} has a {key} that is not a number.")
        if not isinstance(value, (str, int, float, bool, type(None))):
            raise ResultError(f"{what} has a {key} that is neither text nor a number.")
