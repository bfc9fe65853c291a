"""What the large panes show of a run under way, and a finished clip in words."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from app.clips.progress import NO_TOKEN, Progress
from app.parts.pictures import block_name, png_uri, sheet, token_colours, walls_path
from nbp_core.config.shapes import Size3, format_block_shape

_GIVEN_COLOUR = (148, 148, 148, 255)
_EMPTY_COLOUR = (128, 128, 128, 48)


def _newest_box(places_thw: Iterable[npt.NDArray[np.intp]], latent: int) -> str:
    """SVG path around the tokens just made that lie in a latent frame."""
    t, h, w = places_thw
    here = t == latent
    if not here.any():
        return ""
    top, left, bottom, right = h[here].min(), w[here].min(), h[here].max() + 1, w[here].max() + 1
    return f"M{left} {top}H{right}V{bottom}H{left}Z"


def idle_view(shape: Size3, grid: Size3) -> dict[str, Any]:
    """The live view before a run: an empty grid, cut as the next run will cut it."""
    name = f"{block_name(shape)} {format_block_shape(shape)}"
    return {
        "kind": "live",
        "frame": "",
        "frame_alt": "No frame yet",
        "frame_text": "Your clip will appear here, frame by frame.",
        "tokens": "",
        "sheet": "",
        "grid": list(grid[1:]),
        "walls": walls_path(shape, (grid[1], grid[2]), first=False),
        "newest": "",
        "tokens_alt": f"Empty grid of {grid[1]} x {grid[2]} tokens split into blocks of {name}",
        "tokens_text": f"Tokens of one latent frame (4 video frames), split into blocks: {name}",
        "sheet_alt": "No latent frames yet",
    }


def live_view(progress: Progress) -> dict[str, Any]:
    """The live view of a moment of a run."""
    tokens_thw = progress.tokens_thw
    t, h, w = tokens_thw.shape
    places_thw = np.unravel_index(progress.newest, tokens_thw.shape)
    latent = int(places_thw[0][-1]) if progress.newest.size else 0
    colours = token_colours(tokens_thw)
    given = _latents(progress.num_context_frames, progress.total_frames, t)
    colours[:given][tokens_thw[:given] == NO_TOKEN] = _GIVEN_COLOUR
    is_known = colours[..., 3] > 0
    outlined = np.where(is_known[..., None], colours, np.array(_EMPTY_COLOUR, np.uint8))
    frame = "" if progress.frame_HWC is None else png_uri(progress.frame_HWC)
    frame_text = f"Frame {progress.num_frames} of {progress.total_frames}"
    return {
        "kind": "live",
        "frame": frame,
        "frame_alt": frame_text,
        "frame_text": frame_text if frame else "The first frame is being made.",
        "tokens": png_uri(colours[latent]),
        "sheet": png_uri(sheet(outlined)),
        "grid": [h, w],
        "walls": walls_path(progress.block_shape, (h, w), first=latent == 0),
        "newest": _newest_box(places_thw, latent),
        "tokens_alt": f"Tokens of latent frame {latent + 1} of {t}, filled block by block",
        "tokens_text": f"Tokens of latent frame {latent + 1} of {t}",
        "sheet_alt": f"All {t} latent frames: {is_known.sum()} of {is_known.size} tokens filled in",
    }


def _latents(num_frames: int, total_frames: int, num_latents: int) -> int:
    """Latent frames that so many frames fill."""
    if num_frames == 0 or num_latents == 1:
        return min(num_frames, num_latents)
    return 1 + (num_frames - 1) * (num_latents - 1) // (total_frames - 1)


def frame_strip(source: str, num_frames: int) -> str:
    """All frames side by side, to be scrolled, as HTML."""
    alt = f"The {num_frames} frames of the clip side by side"
    return (
        f'<div tabindex="0" role="group" aria-label="{alt}"><img src="{source}" alt="{alt}"></div>'
    )


def settings_text(manifest: dict[str, Any]) -> str:
    """The settings of a run, as HTML."""
    text = escape(json.dumps(manifest, indent=2), quote=False)
    return f'<pre tabindex="0" role="group" aria-label="Settings of this clip">{text}</pre>'
