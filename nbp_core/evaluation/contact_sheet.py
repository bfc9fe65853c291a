"""A contact sheet: one picture of several clips, with a few frames of each under its name.

Shapes: N clips, T H W pixels, C colour; uint8 RGB.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from einops import rearrange

from nbp_core.media.files import Frames
from nbp_core.media.video import write_strip

CLIPS = 20
FRAMES = 5
COLUMNS = 2
_LABEL_HEIGHT = 16


def contact_sheet(frames_NTHWC: Frames, names: list[str]) -> Frames:
    """(H, W, C) uint8: FRAMES frames of CLIPS clips, which are evenly spread, not selected."""
    clips = np.linspace(0, len(frames_NTHWC) - 1, min(CLIPS, len(frames_NTHWC))).round().astype(int)
    cells = [_cell(frames_NTHWC[i], f"{i + 1}. {names[i]}") for i in clips]
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % COLUMNS)
    sheet: Frames = rearrange(np.stack(cells), "(r c) h w k -> (r h) (c w) k", c=COLUMNS)
    return sheet


def _cell(frames_THWC: Frames, name: str) -> Frames:
    """Frames evenly spaced from first to last, side by side under a line of text."""
    chosen = np.linspace(0, len(frames_THWC) - 1, FRAMES).round().astype(int)
    strip = rearrange(frames_THWC[chosen], "t h w c -> h (t w) c")
    label: Frames = np.full((_LABEL_HEIGHT, strip.shape[1], 3), 255, np.uint8)
    cv2.putText(label, name, (4, 12), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    cell: Frames = np.concatenate([label, strip])
    return cell


def write_contact_sheet(path: Path, frames_NTHWC: Frames, names: list[str], comment: str) -> None:
    """Writes the sheet as a PNG with a comment. Raises MediaError if it cannot be written."""
    write_strip(path, contact_sheet(frames_NTHWC, names)[None], comment=comment)
