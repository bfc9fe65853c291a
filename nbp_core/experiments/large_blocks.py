"""Sampling in large blocks: whole frames by each method, and by the paper's at lower strengths.

A lower temperature or top-p also trades diversity for quality. Shapes: N clips.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from nbp_core.config.sampling import METHODS
from nbp_core.config.shapes import format_block_shape
from nbp_core.evaluation.figures import GREY, Clips, Figure
from nbp_core.evaluation.metrics import diversity, small
from nbp_core.experiments.experiment import Bench, Rows

TEMPERATURES, TOP_PS = (0.8,), (0.6, 0.75)
CLIPS_OF_A_START = 2
"""Clips per given first frame; their difference is the diversity."""
WAYS: Final[dict[str, dict[str, Any]]] = {
    **{method: {"method": method} for method in METHODS},
    **{f"paper, top-p {p}": {"method": "paper", "top_p": p} for p in TOP_PS},
    **{f"paper, temperature {t}": {"method": "paper", "temperature": t} for t in TEMPERATURES},
}
"""Changes of the sampling settings by name, for any elastic model."""


def by_way(bench: Bench, way: str) -> Rows:
    """All figures, and the sampling time, of clips drawn in one way with whole frames as blocks."""
    pipeline, is_given = bench.pipeline, bench.context_frames > 0
    shape = (1, *pipeline.grid[1:])
    sampling = replace(bench.sampling, block_shape=shape, **WAYS[way])
    count = bench.count * CLIPS_OF_A_START if is_given else bench.count
    clips, made = bench.judge.generate(
        pipeline, count, bench.context_frames, sampling, bench.batch_size
    )
    named = replace(clips, name=f"blocks of {format_block_shape(shape)}, {way}")
    figures = bench.judge.figures(named, paired=is_given)
    if is_given:
        figures.append(_difference_of_a_start(named, len(bench.judge.held)))
    speed = Figure(
        metric="sampling time per clip", of=named.name, value=made.sampling_s / len(clips),
        clips=len(clips), unit=f"s, in batches of {bench.batch_size}", better="lower",
    )  # fmt: skip
    return [figure.to_row() for figure in [*figures, speed]]


def _difference_of_a_start(clips: Clips, num_starts: int) -> Figure:
    starts = [str(start) for start in np.arange(len(clips)) % num_starts]
    return Figure(
        metric="difference between clips of one start",
        of=clips.name,
        value=diversity(small(clips.frames_NTHWC), starts),
        clips=len(clips),
        unit=GREY,
        better="higher",
    )
