"""config.json files of model folders as people break them, and what is said about each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.models import transformer_config


def _edited(**changes: Any) -> bytes:
    config = {**transformer_config().to_dict(), **changes}
    return json.dumps({"format": 1, "kind": "transformer", "config": config}).encode()


def _described(**parts: Any) -> bytes:
    whole = {"format": 1, "kind": "transformer", "config": transformer_config().to_dict()}
    return json.dumps({**whole, **parts}).encode()


BROKEN: dict[str, tuple[bytes, str]] = {
    "no-config": (b'{"format": 1, "kind": "transformer"}', "config is missing"),
    "null-config": (_described(config=None), "config must be an object of settings, not null"),
    "list-config": (_described(config=[1]), "config must be an object of settings, not [1]"),
    "text-number": (_edited(num_layers="4"), 'num_layers must be a whole number, not "4"'),
    "half-layer": (_edited(num_layers=1.5), "num_layers must be a whole number, not 1.5"),
    "true-layers": (_edited(num_layers=True), "num_layers must be a whole number, not true"),
    "no-heads": (_edited(num_heads=0), "num_heads must be 1 to 65,536, not 0"),
    "many-layers": (_edited(num_layers=10**9), "num_layers must be 1 to 1,000, not 1000000000"),
    "huge-grid": (_edited(grid=[1000, 1000, 1000]), "has more than 1,048,576 tokens"),
    "flat-grid": (_edited(grid=[5, 16]), "grid has too few values: [5, 16]"),
    "deep-grid": (_edited(grid=[5, 16, 16, 1]), "grid must have 3 values"),
    "grid-of-text": (_edited(grid=["5", 16, 16]), 'grid[0] must be a whole number, not "5"'),
    "unknown": (_edited(colour=1), "unknown setting 'colour'"),
    "layout": (_edited(layout="round"), 'layout must be "plain", "hybrid" or "elastic"'),
    "actions": (_edited(actions="walk"), 'actions must be a list, not "walk"'),
    "nan": (_edited(dropout=float("nan")), "dropout must be a finite number, not NaN"),
    "tokenizer": (_described(tokenizer=5), "tokenizer must be an object, not 5"),
    "sha256": (_described(tokenizer={"sha256": 5}), "tokenizer.sha256 must be text, not 5"),
    "kind": (_described(kind=["transformer"]), "does not name a model kind"),
    "no-json": (b"{", "is not JSON"),
    "empty": (b"", "config.json is empty"),
    "latin-1": (b'{"name": "caf\xe9"}', "is not UTF-8"),
    "deep": (b"[" * 100_000, "is not JSON"),
}
"""Name of the folder -> (its config.json, what the sentence says)."""


def add_broken(models: Path, weights: Path) -> None:
    """Every broken model as a folder of its own, each with the same sound weights."""
    for name, (config, _) in BROKEN.items():
        folder = models / name
        folder.mkdir()
        (folder / "config.json").write_bytes(config)
        (folder / "model.safetensors").write_bytes(weights.read_bytes())


def is_sentence(text: str) -> bool:
    """Whether a fault is one line without a traceback or pydantic's own words."""
    foreign = ("Traceback", "pydantic", "Error", "\n")
    return bool(text) and not any(word in text for word in foreign)
