"""Where a play can start: a visitor's photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from app.play.starts import Starts


def test_a_photograph_starts_from_the_square_that_was_chosen(tmp_path: Path) -> None:
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, :64, 0] = wide[:, 128:, 2] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    starts = Starts(None)
    colours = []
    for crop in (0.0, 0.5, 1.0):
        start = starts.add_photograph(tmp_path / "wide.png", crop)
        frame_HWC = starts.get(start.id).first_frame()
        assert frame_HWC is not None
        colours.append(tuple(frame_HWC[64, 64]))
    assert colours == [(255, 0, 0), (0, 0, 0), (0, 0, 255)]
