"""An attention map as a labelled figure: one drawing, saved as PNG, SVG or PDF. Knows no models."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from nbp_core.attention_maps.pictures import (
    DECADES,
    Positions,
    Weights,
    colours,
    levels,
    write_npz,
)
from nbp_core.media.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_DPI = 240
_MASKED = (225, 225, 225)
_LINES = "#38bdf8"
_COMMENT = {".png": "comment", ".svg": "Description", ".pdf": "Subject"}
"""The metadata field that holds the report, per file type."""
_DRAWING = threading.Lock()
"""Held while a figure is drawn: matplotlib's settings and fonts are those of the whole process."""


def write_figure(path: Path, weights_LL: Weights, positions: Positions, report: str) -> None:
    """Writes the map with axes, block outlines and a colour bar; the report goes into the file.

    The name ends in .png, .svg or .pdf. Each weight is one pixel; in SVG and PDF all else is vector
    graphics. Raises MediaError if the file cannot be written; no partial file remains.
    """
    import matplotlib as mpl  # slow to import, and few programs draw

    kind = path.suffix.lower()
    undated = {} if kind == ".png" else {"Date" if kind == ".svg" else "CreationDate": None}
    # Words stay words in an SVG, and the same map gives the same file.
    words = mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "nbp", "pdf.fonttype": 42})
    with _DRAWING, words, replacing(path) as temporary:
        draw(weights_LL, positions, report).savefig(
            temporary, format=kind[1:], dpi=_DPI, metadata={_COMMENT[kind]: report, **undated}
        )


def draw(weights_LL: Weights, positions: Positions, report: str) -> Figure:
    """The figure: queries down, keys across, colours on a log scale."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, LogNorm
    from matplotlib.figure import Figure

    length, walls = len(weights_LL), positions["walls"]
    figure = Figure(figsize=(7.2, 6.4), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(_pixels(weights_LL, walls), extent=(0, length, length, 0), interpolation="none")
    axes.plot(*_stairs(walls), color=_LINES, linewidth=0.6)
    starts, names = latent_frames(positions)
    for start in starts[1:]:
        axes.axhline(start, color=_LINES, linewidth=0.4, alpha=0.6)
        axes.axvline(start, color=_LINES, linewidth=0.4, alpha=0.6)
    axes.set_xticks(starts, names)
    axes.set_yticks(starts, names)
    axes.set_xlabel("key: the position that is seen (t: latent frame)")
    axes.set_ylabel("query: the position that predicts")
    axes.set_title(title(report), fontsize=10)
    scale = ScalarMappable(LogNorm(10.0**-DECADES, 1), ListedColormap(colours() / 255))
    figure.colorbar(scale, ax=axes, label="attention weight", shrink=0.8)
    return figure


def title(report: str) -> str:
    """A title such as 'Attention of layer 1, mean over heads, blocks of 1x1x16' from a report in
    JSON; any other report is returned as it is."""
    try:
        settings = json.loads(report)
        layer, head, block = settings["layer"], _head(settings["head"]), settings["block"]
        return f"Attention of layer {layer}, {head}, blocks of {block}"
    except (ValueError, KeyError, TypeError):
        return report


def _head(head: object) -> str:
    names = {"mean": "mean over heads", "max": "maximum over heads"}
    return names.get(str(head), f"head {head}")


def latent_frames(positions: Positions) -> tuple[list[int], list[str]]:
    """First position of each latent frame, and 't1', 't2', ..."""
    t_L = positions["place_L3"][:, 0]
    latents = range(int(t_L.max()) + 1)
    return [int(np.argmax(t_L == t)) for t in latents], [f"t{t + 1}" for t in latents]


def _pixels(weights_LL: Weights, walls: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Colours of all weights; masked weights are grey. walls: first position of each segment, and
    L."""
    pixels = colours()[levels(weights_LL)]
    ends_L = np.repeat(walls[1:], np.diff(walls))
    pixels[np.arange(len(weights_LL)) >= ends_L[:, None]] = _MASKED
    return pixels


def _stairs(walls: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """x and y of the line between visible and masked positions."""
    return np.repeat(walls[1:], 2), np.repeat(walls, 2)[1:-1]


WRITERS: Final[dict[str, Callable[[Path, Weights, Positions, str], None]]] = {
    ".png": write_figure,
    ".svg": write_figure,
    ".pdf": write_figure,
    ".npz": write_npz,
}
"""The writer for each file suffix: figures, and the exact weights."""
