"""A results file that grows by units of work: a run that was stopped goes on after its last one."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from nbp_core.media_files import replacing

Report = dict[str, Any]

RESULTS = Path("results")
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


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Where the report goes."""
    parser.add_argument("--out", type=Path, help="file to write; default: results/NAME.json")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def results_file(args: argparse.Namespace) -> Path:
    """The file that the options name. Raises ValueError if its folder does not exist."""
    if args.out is None:
        RESULTS.mkdir(exist_ok=True)
        return RESULTS / f"{args.name}.json"
    out: Path = args.out
    if not out.parent.is_dir():
        raise ValueError(f"the folder of {out.name} does not exist: {out.parent}")
    return out


def say(args: argparse.Namespace, out: Path, report: Report) -> None:
    """The report on stdout, or one line on stderr."""
    if args.json:
        print(json.dumps(report))
    else:
        print(f"{out}: {len(report['rows'])} rows", file=sys.stderr)
