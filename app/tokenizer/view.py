"""What the Tokenizer tab shows of a round trip: figures, token maps, curves, the two pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import numpy as np
import plotly.graph_objects as go

from app.jobs import JobView
from app.parts.charts import BLUE, GREEN, chart_layout
from app.parts.pictures import png_uri, token_colours
from app.parts.status import line, standing
from app.tokenizer.round_trip import SHOWN_SIDE, RoundTrip, split_strip

_HIGHER = (
    "Higher PSNR and SSIM are better: at 30 dB the difference is hard to see, and equal pictures"
    " have an SSIM of 1."
)


def status(view: JobView | None) -> str:
    """One line on where the round trip stands, as HTML; before the first, what it will show."""
    if view is None:
        return line(
            "Choose an input and press Tokenize. Its frames then stand here before and after the"
            " tokenizer, with their tokens and how much was lost.",
            "idle",
        )
    _, text, kind = standing(view, _done, loading="Encoding and decoding...")
    return line(text, kind)


def _done(trip: RoundTrip) -> str:
    if trip.is_there:
        return "Done."
    return "The files of this round trip made way for newer ones. Press Tokenize again."


def decibel(value: float) -> str:
    """'23.6 dB'; equal pictures have no finite one."""
    return f"{value:.1f} dB" if math.isfinite(value) else "identical"


def figures(trip: RoundTrip) -> str:
    """The figures of the whole clip, as HTML."""
    t, h, w = trip.tokens_thw.shape
    items = {
        "PSNR": decibel(trip.fidelity.psnr),
        "SSIM": f"{trip.fidelity.ssim:.3f}",
        f"tokens ({t} x {h} x {w})": f"{trip.tokens_thw.size:,}",
        "codes used": f"{trip.num_codes:,} of {trip.codebook_size:,}",
        "compressed size": f"{trip.bits / 8e3:,.1f} kB",
        "smaller than raw RGB": f"{trip.ratio:,.0f}x",
    }
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in items.items())
    return f"<dl>{cells}</dl><p>{_HIGHER}</p><p>{escape(trip.note)} {escape(trip.measured)}</p>"


def token_maps(trip: RoundTrip) -> str:
    """The tokens of every latent frame in colours, as HTML."""
    tokens_thw = trip.tokens_thw
    per_latent = (trip.num_frames - 1) // max(1, len(tokens_thw) - 1)
    items = []
    for index, tokens_hw in enumerate(tokens_thw):
        first = 1 + (index - 1) * per_latent + 1
        which = "Frame 1" if index == 0 else f"Frames {first} to {first + per_latent - 1}"
        codes = len(np.unique(tokens_hw))
        text = f"{which}: {codes} different codes"
        if index:
            same = int((tokens_hw == tokens_thw[index - 1]).sum())
            text += f"; {same} of {tokens_hw.size} unchanged from the latent frame before"
        image = png_uri(token_colours(tokens_hw))
        items.append(
            f'<li><img src="{image}" alt="Token map of latent frame {index + 1}">'
            f"<span>{text}</span></li>"
        )
    return (
        "<p>Each square is a token: one code that stands for 8 x 8 pixels over up to 4 frames."
        " Same colour = same code."
        f"</p><ul>{''.join(items)}</ul>"
    )


def pair(trip: RoundTrip, frame: int) -> dict[str, str]:
    """One frame (from 1) before and after, in large crisp pixels, as the page draws it."""
    shown = []
    for strip in (trip.original_strip, trip.strip):
        frames_THWC = split_strip(strip)
        frame_HWC = frames_THWC[min(max(frame, 1), len(frames_THWC)) - 1]
        scale = max(1, SHOWN_SIDE // frame_HWC.shape[0])
        shown.append(png_uri(frame_HWC.repeat(scale, axis=0).repeat(scale, axis=1)))
    return {"before": shown[0], "after": shown[1]}


def quality_curve(trip: RoundTrip) -> go.Figure:
    """PSNR and SSIM of every frame, one under the other."""
    figure = go.Figure()
    numbers = list(range(1, trip.num_frames + 1))
    series: tuple[tuple[str, Sequence[float], str, str, str], ...] = (
        ("PSNR", trip.fidelity.psnr_per_frame, "y", BLUE, ":.1f} dB"),
        ("SSIM", trip.fidelity.ssim_per_frame, "y2", GREEN, ":.3f}"),
    )
    for name, values, axis, colour, shape in series:
        figure.add_scatter(
            x=numbers,
            y=[value if math.isfinite(value) else None for value in values],
            yaxis=axis,
            name=name,
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"symbol": "circle" if axis == "y" else "diamond", "size": 7},
            hovertemplate="frame %{x}: %{y" + shape + f"<extra>{name}</extra>",
        )
    layout = chart_layout("frame", "PSNR, dB")
    x, y = layout["xaxis"], {**layout["yaxis"], "rangemode": "normal"}
    figure.update_layout(
        **layout | {"margin": {**layout["margin"], "t": 12}, "showlegend": False},
        yaxis2={**y, "title": {"text": "SSIM"}, "domain": [0, 0.45]},
    )
    figure.update_layout(
        xaxis={**x, "anchor": "y2", "dtick": 4, "tick0": 1}, yaxis={**y, "domain": [0.55, 1]}
    )
    return figure
