"""Longer clips, each continued from its own last frames: figures over time, by windows.

Shapes: N clips, W windows, T H W pixels, C colour, t h w tokens. A window has 17 frames, like a
real clip, and begins with the last frame of the window before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from nbp_core.config.shapes import CLIP_FRAMES, parse_block_shape
from nbp_core.evaluation import metrics
from nbp_core.evaluation.figures import Clips
from nbp_core.evaluation.frechet import frechet_distance
from nbp_core.experiments.experiment import Bench, Rows
from nbp_core.generation.batches import generate_many
from nbp_core.generation.segments import carried_latents
from nbp_core.media.drift import colour_drift, mean_sharpness
from nbp_core.media.files import Frames
from nbp_core.tokenizer.interface import to_clip, to_frames

LONGEST = 129
"""Frames of a clip. With the same seed, clips of 33 or 65 frames are its beginning."""
STRIDE = CLIP_FRAMES - 1
CODED_AGAIN = "tokenizer alone"
"""The unit in which the last frames of real clips are coded as often as a continued clip's are."""


def longer(bench: Bench, unit: str) -> Rows:
    """One row per window, in blocks of one shape; the first row is of real clips."""
    if unit == CODED_AGAIN:
        return coded_again(bench)
    pipeline, judge = bench.pipeline, bench.judge
    actions = judge.held.actions[: bench.count]
    contexts = None
    if bench.context_frames:
        contexts = judge.held.frames_NTHWC[: bench.count, : bench.context_frames]
    sampling = replace(bench.sampling, block_shape=parse_block_shape(unit))
    made = generate_many(
        pipeline, pipeline.conditions.fitting(actions), contexts, LONGEST, sampling,
        bench.batch_size,
    )  # fmt: skip
    common = {"model": pipeline.name, "block": unit, "clips": len(actions)}
    real = judge.held.frames_NTHWC[: bench.count]
    rows = [common | {"window": 0, "of": "real clips"} | figures(bench, actions, real, real)]
    first = made.frames_NTHWC[:, :CLIP_FRAMES]
    latents = STRIDE // pipeline.tokenizer.config.time_factor
    for window in range((LONGEST - 1) // STRIDE):
        frames = made.frames_NTHWC[:, window * STRIDE :][:, :CLIP_FRAMES]
        tokens = made.tokens_Nthw[:, window * latents :][:, : latents + 1]
        changes = np.mean([metrics.token_change_rate(clip) for clip in tokens])
        rows.append(
            common
            | {"window": window + 1, "of": "generated clips", "to_frame": (window + 1) * STRIDE + 1}
            | figures(bench, actions, frames, first)
            | {"token changes": float(changes)}
        )
    return rows


def figures(
    bench: Bench, actions: Sequence[str], frames_NTHWC: Frames, first_NTHWC: Frames
) -> dict[str, Any]:
    """Figures of one window. first_NTHWC: the first window, from which the clips may drift."""
    judge = bench.judge
    clips = Clips(name="", frames_NTHWC=frames_NTHWC, actions=list(actions))
    still = judge.still(clips, paired=False)
    flickers = [
        metrics.flicker(frames, mask) for frames, mask in zip(frames_NTHWC, still, strict=True)
    ]
    small, small_first = metrics.small(frames_NTHWC), metrics.small(first_NTHWC)
    found = {
        "flicker at still places": float(np.nanmean(flickers)),
        "sharpness": mean_sharpness(frames_NTHWC),
        "colour drift": colour_drift(frames_NTHWC, first_NTHWC[:, 0]),
        "difference to the first window": float(
            np.sqrt(((small - small_first) ** 2).mean(1)).mean()
        ),
        "difference between clips": metrics.diversity(small, [""] * len(small)),
    }
    for network in judge.tools.networks:
        reference = judge.features_of_reference(network)
        found[network.name] = frechet_distance(network.features(frames_NTHWC), reference)
    return found


@torch.inference_mode()
def coded_again(bench: Bench) -> Rows:
    """One row per pass of the last frames of real clips through the tokenizer, without a model."""
    pipeline, tokenizer = bench.pipeline, bench.pipeline.tokenizer
    carried = tokenizer.config.num_frames(carried_latents(tokenizer.config))
    real = bench.judge.held.frames_NTHWC[: bench.count, -carried:]
    per_segment = CLIP_FRAMES - carried
    rounds = -(-(LONGEST - CLIP_FRAMES) // per_segment)
    frames, rows = real, []
    for times in range(rounds + 1):
        if times:
            frames = to_frames(tokenizer.decode(tokenizer.encode(to_clip(frames, pipeline.device))))
        rows.append(
            {
                "model": pipeline.name,
                "block": CODED_AGAIN,
                "clips": len(real),
                "window": times,
                "of": f"real clips coded {times} times",
                "sharpness": mean_sharpness(frames),
                "colour drift": colour_drift(frames, real[:, 0]),
            }
        )
    return rows
