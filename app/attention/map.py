"""Attention maps on the page, the full ones and all heads small: what its scripts draw.

Weights travel as log levels, a byte each, so the page reads them to within some two per cent; the
exact ones are in the NPZ file.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np

from nbp_core.attention_maps.pictures import DECADES, Head, Levels, Weights, colours, levels

if TYPE_CHECKING:
    from nbp_core.attention_maps.view import AttentionView

PREFIX_DIVISOR = 5
"""The paper's figure 14 divides the attention to text by five, so as not to outshine the rest."""
_TOP_SHARE = 0.999
"""Share of the weights that a linear scale resolves. The few above all have the same colour."""
_TICK_ROWS = 4


def base64_of(array: Levels | Weights) -> str:
    """The raw bytes of an array, for a script to unpack."""
    return base64.b64encode(array.tobytes()).decode()


def pane(view: AttentionView, weights_LL: Weights, title: str, row: int) -> dict[str, Any]:
    """One map with all that its axes, walls and read-out need."""
    seen = weights_LL[weights_LL > 0]
    return {
        "title": title,
        "n": view.length,
        "levels": base64_of(levels(weights_LL)),
        "top": float(np.quantile(seen, _TOP_SHARE)),
        "walls": view.walls,
        "ticks": ticks(view),
        "labels": view.labels,
        "makes": [view.place_words(place) if place >= 0 else "" for place in view.targets_L],
        "prefix": view.num_prefix,
        "row": row,
    }


def map_view(panes: list[dict[str, Any]], layer: int, head: Head) -> dict[str, Any]:
    """One map, or two side by side."""
    return {
        "panes": panes,
        "layer": layer,
        "head": head,
        "colours": base64_of(colours()),
        "decades": DECADES,
        "divisor": PREFIX_DIVISOR,
    }


def heads_view(small: Levels) -> dict[str, Any]:
    """Thumbnails (layers, heads, side, side). Which one is chosen, map_view says."""
    layers, heads, side, _ = small.shape
    return {
        "layers": layers,
        "heads": heads,
        "side": side,
        "levels": base64_of(small),
        "colours": base64_of(colours()),
    }


def ticks(view: AttentionView) -> list[tuple[int, str, bool]]:
    """(position, words, whether a latent frame begins there) along both axes."""
    t, h, w = np.unravel_index(view.places_L.clip(min=0), view.grid)
    marks: list[tuple[int, str, bool]] = []
    latest = -1
    for position in np.flatnonzero(view.is_token_L).tolist():
        if t[position] > latest:
            latest = int(t[position])
            marks.append((position, f"t{latest + 1}", True))
        elif w[position] == 0 and h[position] % _TICK_ROWS == 0:
            marks.append((position, f"h{h[position] + 1}", False))
    return marks
