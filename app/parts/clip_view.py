"""A finished clip as the page's scripts draw it: frames, tokens, and when each was there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.clips.progress import Making
from app.clips.run import Outcome
from app.parts.pictures import SHEET_COLUMNS, file_uri, png_uri, sheet, token_colours, walls_path
from nbp_core.config.shapes import CLIP_FPS, CLIP_FRAMES, Size3


def clip_view(job_id: str, outcome: Outcome) -> dict[str, Any]:
    """A finished clip: its frames and tokens, and when each of them was there."""
    return making_view(job_id, outcome.strip, outcome.making, outcome.last.block_shape)


def making_view(job_id: str, strip: Path, making: Making, shape: Size3) -> dict[str, Any]:
    """See clip_view. job_id: with it the page asks for token odds (app.clips.odds)."""
    t, h, w = making.tokens_thw.shape
    num_frames = len(making.frame_s)
    return {
        "kind": "clip",
        "job": job_id,
        "frames": file_uri(strip),
        "num_frames": num_frames,
        "side": making.side,
        "fps": CLIP_FPS,
        "factor": (CLIP_FRAMES - 1) // 4 if t == 1 else (num_frames - 1) // (t - 1),
        "patch": making.side // h,
        "codes": making.codebook_size,
        "grid": [t, h, w],
        "tokens": making.tokens_thw.flatten().tolist(),
        "sheet": png_uri(sheet(token_colours(making.tokens_thw))),
        "columns": SHEET_COLUMNS,
        "walls": [walls_path(shape, (h, w), first=is_first) for is_first in (True, False)],
        "step": making.step_thw.flatten().tolist(),
        "step_s": [round(seconds, 4) for seconds in making.step_s],
        "frame_s": [round(seconds, 4) for seconds in making.frame_s],
    }
