"""The bundled clip that plays before the first run: two files that a run of Generate exports."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from app.clips.progress import Making
from app.generate.live import making_view
from app.session import Session
from nbp_core.config.shapes import parse_block_shape

FOLDER = "first"
"""Inside the folder of assets; holds clip-tokens.npz and clip-frames.png."""


def sample(session: Session) -> tuple[dict[str, Any], str] | None:
    """(the clip as the large panes show it, what it is in words); None where none is bundled."""
    if session.assets is None:
        return None
    tokens, strip = (session.assets / FOLDER / f"clip-{name}" for name in _NAMES)
    if not (tokens.is_file() and strip.is_file()):
        return None
    with np.load(tokens, allow_pickle=False) as stored:
        settings = json.loads(str(stored["settings"]))
        making = _making(stored)
    shape = parse_block_shape(settings["block_shape"])
    action = str(settings["action"]).replace("-", " ")
    words = f"{action}, by model {settings['model']}, seed {settings['sampling']['seed']}"
    return making_view("", strip, making, shape), words


_NAMES = ("tokens.npz", "frames.png")


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
