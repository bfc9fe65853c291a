"""The bundled clip that is there before the first run: two files that a run of Generate exports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from app.clips.progress import Making
from app.session import Session
from nbp_core.config.shapes import Size3, parse_block_shape

SAMPLE_ID = "bundled"
"""Stands where a clip that was made here has the id of its job."""
FOLDER = "first"
"""Inside the folder of assets; holds clip-tokens.npz and clip-frames.png."""
_NAMES = ("tokens.npz", "frames.png")


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """The bundled clip."""

    strip: Path
    """All frames side by side, a PNG file."""
    making: Making
    manifest: dict[str, Any]

    @property
    def block_shape(self) -> Size3:
        return parse_block_shape(self.manifest["block_shape"])

    @property
    def words(self) -> str:
        """'drawer close, by model small, seed 42'."""
        action = str(self.manifest["action"]).replace("-", " ")
        seed = self.manifest["sampling"]["seed"]
        return f"{action}, by model {self.manifest['model']}, seed {seed}"


def sample(session: Session) -> Sample | None:
    """The bundled clip; None where none is bundled."""
    if session.assets is None:
        return None
    tokens, strip = (session.assets / FOLDER / f"clip-{name}" for name in _NAMES)
    if not (tokens.is_file() and strip.is_file()):
        return None
    with np.load(tokens, allow_pickle=False) as stored:
        manifest = json.loads(str(stored["settings"]))
        return Sample(strip=strip, making=_making(stored), manifest=manifest)


def _making(stored: Any) -> Making:
    tokens_thw = stored["tokens_thw"]
    return Making(
        tokens_thw=tokens_thw,
        step_thw=stored["step_thw"],
        step_s=tuple(stored["step_s"].tolist()),
        frame_s=tuple(stored["frame_s"].tolist()),
        codebook_size=int(stored["codebook_size"]),
        side=8 * tokens_thw.shape[1],
    )
