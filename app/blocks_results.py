"""Measured speeds by block shape that are stored with the project: results/*.json of `bench`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nbp_core.config import Size3, parse_block_shape

RESULTS: Final = Path(__file__).resolve().parents[1] / "results"


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredSpeeds:
    """One model on one machine, whole clips, tokenizer included."""

    model: str
    device: str
    weights: str
    date: str
    frames_per_s: dict[Size3, float]

    @property
    def title(self) -> str:
        """What was measured, in words."""
        return f"{self.model} on {self.device}, {self.date}"


def stored(folder: Path = RESULTS) -> list[StoredSpeeds]:
    """What the files of a folder hold; files of other kinds are passed over."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            report = json.loads(path.read_text())
            if report["kind"] == "bench":
                found += _speeds(report)
        except (OSError, ValueError, KeyError, TypeError):
            continue  # the Results tab names the files that are broken
    return found


def _speeds(report: dict[str, Any]) -> list[StoredSpeeds]:
    models = dict.fromkeys((clip["model"], clip["weights"]) for clip in report["clips"])
    return [
        StoredSpeeds(
            model=model,
            device=report["device"],
            weights=weights,
            date=report["date"],
            frames_per_s={
                parse_block_shape(clip["block"]): float(clip["frames_s"])
                for clip in report["clips"]
                if (clip["model"], clip["weights"]) == (model, weights)
            },
        )
        for model, weights in models
    ]
