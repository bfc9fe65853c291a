"""Attention weights as levels, colours and exact files. Knows no models.

Shapes: L positions. Weights are float32 in [0, 1]; levels are uint8 on a log scale.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from nbp_core.media.files import replacing

Weights = NDArray[np.float32]
Levels = NDArray[np.uint8]
Positions = dict[str, NDArray[Any]]
"""Arrays by name: label_L (texts), place_L3 and target_L3 (t, h, w from 0; -1: none), and walls
(first position of each segment, then L)."""

Head = int | Literal["mean", "max"]
"""One head, counted from 0, or the mean or maximum over all heads of the layer."""

DECADES = 5
"""Powers of ten between the largest and the smallest weight that the levels tell apart."""


def parse_head(text: str) -> Head:
    """'1' -> 0, the first head; 'mean' and 'max' stay. Raises ValueError for anything else."""
    match text:
        case "mean" | "max":
            return text
        case _ if text.isdecimal() and int(text) > 0:
            return int(text) - 1
    raise ValueError(f"the head must be a number from 1 on, mean or max, not {text!r}")


def levels(weights: Weights) -> Levels:
    """Weights -> log levels: 1 becomes 255, 10**-DECADES becomes 1, anything smaller 0."""
    scale = 254 / DECADES
    with np.errstate(divide="ignore"):
        raised = 255 + scale * np.log10(weights)
    rounded: Levels = raised.round().clip(0, 255).astype(np.uint8)
    return rounded


def colours() -> Levels:
    """The colour of each level: (256, 3) RGB from black to pale yellow."""
    ramp = np.arange(256, dtype=np.uint8)[None]
    table_BGR = cv2.applyColorMap(ramp, cv2.COLORMAP_INFERNO)[0]
    return np.ascontiguousarray(table_BGR[:, ::-1], np.uint8)


def write_npz(path: Path, weights_LL: Weights, positions: Positions, report: str) -> None:
    """Writes the exact weights, the content of each position, and the report."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, weights_LL=weights_LL, report=report, **positions)  # type: ignore[arg-type]
