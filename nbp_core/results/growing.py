"""A results file that grows by units of work: a run that was stopped goes on after its last one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nbp_core.media.files import replacing

Report = dict[str, Any]

_VARYING = {"date", "command", "done", "baselines", "rows", "curves"}


def earlier(out: Path, report: Report) -> Report | None:
    """What an earlier run of the same settings has left, if there is any, with this run's command.

    Raises ValueError for a file that is something else: it is not overwritten.
    """
    if not out.is_file():
        return None
    try:
        found = json.loads(out.read_text())
    except ValueError as error:
        raise ValueError(f"{out.name} is there and is not JSON; move it away first") from error
    for key in report.keys() - _VARYING:
        if not isinstance(found, dict) or found.get(key) != report[key]:
            raise ValueError(
                f"{out.name} is there, of another {key}; move it away or name another with --out"
            )
    return {**found, "command": report["command"]}


def remaining(report: Report, units: Iterable[str]) -> list[str]:
    """The units that are not done yet."""
    done = report["done"].split("; ")
    return [unit for unit in units if unit not in done]


def keep(out: Path, report: Report, unit: str, rows: Sequence[dict[str, Any]]) -> None:
    """Adds a unit's rows to the report and writes it, whole or not at all."""
    report["rows"] += rows
    report["done"] = "; ".join(filter(None, [report["done"], unit]))
    with replacing(out) as partial:
        partial.write_text(json.dumps(report, indent=1) + "\n")
