"""A result file that grows with each unit of work, so that a stopped run can continue."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nbp_core.config.json import read_json
from nbp_core.media.files import write_text

Report = dict[str, Any]

_VARYING = {"date", "command", "done", "baselines", "rows", "curves"}


def earlier(out: Path, report: Report) -> Report | None:
    """The report of an earlier run with this report's settings and command; None without a file.

    Raises ValueError, and keeps the file, if it has other settings.
    """
    if not out.is_file():
        return None
    try:
        found = read_json(out)
    except ValueError as error:
        raise ValueError(f"{out.name} exists and is not JSON; move it away first") from error
    for key in report.keys() - _VARYING:
        if not isinstance(found, dict) or found.get(key) != report[key]:
            raise ValueError(
                f"{out.name} exists with another {key}; move it away or name another with --out"
            )
    return {**found, "command": report["command"]}


def remaining(report: Report, units: Iterable[str]) -> list[str]:
    """The units of work that are not done yet."""
    done = report["done"].split("; ")
    return [unit for unit in units if unit not in done]


def keep(out: Path, report: Report, unit: str, rows: Sequence[dict[str, Any]]) -> None:
    """Adds the rows of a unit to the report and replaces the file as a whole.

    Units that another process has added to the file meanwhile stay. A figure that is no finite
    number, such as the mean over nothing, is left out of its row.
    """
    present = earlier(out, report)
    if present is not None:
        for key in report.keys() & {"rows", "curves"}:
            report[key] = present[key] + [row for row in report[key] if row not in present[key]]
        report["done"] = present["done"]
    if remaining(report, [unit]):
        report["rows"] += [{k: v for k, v in row.items() if _is_plain(v)} for row in rows]
        report["done"] = "; ".join(filter(None, [report["done"], unit]))
    write_text(out, json.dumps(report, indent=1) + "\n")


def _is_plain(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)
