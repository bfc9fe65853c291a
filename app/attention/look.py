"""Where one query looks, over the clip's frames: what the page's script draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from app.attention.map import base64_of
from app.parts.pictures import png_uri
from nbp_core.attention_maps.pictures import Head, colours
from nbp_core.media.files import Frames

if TYPE_CHECKING:
    from nbp_core.attention_maps.view import AttentionView, Look

Place = tuple[int, int, int]


def frame_of(latent: int, num_frames: int, num_latents: int) -> int:
    """The last of the frames that a latent frame stands for."""
    if num_latents == 1:
        return 0
    return latent * (num_frames - 1) // (num_latents - 1)


def look_row(
    view: AttentionView, layer: int, head: Head, place: int, title: str, num_frames: int
) -> dict[str, Any]:
    """One line of frames: the weights of the query that makes the token of a place."""
    query = view.query_of(place)
    look = view.look(layer, head, query)
    num_latents = view.grid[0]
    captions = []
    for t, weights_hw in enumerate(look.weights_thw):
        last = frame_of(t, num_frames, num_latents) + 1
        first = 1 if t == 0 else frame_of(t - 1, num_frames, num_latents) + 2
        frames = f"frame {last}" if first == last else f"frames {first} to {last}"
        share = f"peak {weights_hw.max():.1%}" if head == "max" else f"{weights_hw.sum():.1%}"
        captions.append(f"t{t + 1}, {frames}: {share}")
    held = int(view.places_L[query]) if view.is_token_L[query] else -1
    return {
        "title": title,
        "row": query,
        "grid": list(view.grid),
        "weights": base64_of(look.weights_thw),
        "seen": base64_of(look.is_seen_thw.astype(np.uint8)),
        "captions": captions,
        "made": _place(view, place),
        "held": _place(view, held) if held >= 0 else None,
        "text": _text(view, query, place, look, head),
    }


def look_view(frames_THWC: Frames, num_latents: int, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The clip's own frames, one for each latent frame, and the looks to lay over them."""
    count = len(frames_THWC)
    shown = [frames_THWC[frame_of(t, count, num_latents)] for t in range(num_latents)]
    return {
        "frames": [png_uri(frame) for frame in shown],
        "colours": base64_of(colours()),
        "rows": rows,
    }


def _place(view: AttentionView, place: int) -> Place:
    t, h, w = (int(part) for part in np.unravel_index(place, view.grid))
    return t, h, w


def _text(view: AttentionView, query: int, place: int, look: Look, head: Head) -> str:
    t, h, w = _place(view, place)
    predicted = (
        f"Position {query + 1} predicts the token at latent frame {t + 1}, row {h + 1},"
        f" column {w + 1}."
    )
    if head == "max":
        # Each weight is that of another head, so their sum is no share of anything.
        peak = float(look.weights_thw.max())
        return f"{predicted} The largest weight of any head on a video token: {peak:.1%}."
    parts: Sequence[tuple[str, float]] = (
        ("earlier video tokens", float(look.weights_thw.sum())),
        ("the action", look.conditions),
        ("middle tokens (placeholders)", look.middle),
        ("the begin-of-video token (BOV)", look.bov),
    )
    shares = ", ".join(f"{share:.1%} to {name}" for name, share in parts if share > 0)
    return f"{predicted} Attention: {shares}."
