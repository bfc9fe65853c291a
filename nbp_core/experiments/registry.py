"""The paper's experiments on a small scale, and some of our own: one function per figure or table.

Input: a Bench (a model, its judge, sampling settings). Output: rows of a results file, one unit of
work at a time, so that a run can be resumed. Shapes: N clips, t h w tokens.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.shapes import (
    CLIP_FRAMES,
    FIGURE6_SHAPES,
    TABLE3_SHAPES,
    Size3,
    format_block_shape,
    parse_block_shape,
)
from nbp_core.evaluation.held_out import frame_losses
from nbp_core.experiments.attention_study import STUDY_SHAPES, attention
from nbp_core.experiments.experiment import Bench, Experiment, Rows
from nbp_core.experiments.large_blocks import WAYS, by_way
from nbp_core.experiments.longer import CODED_AGAIN, longer
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.records import Tokens
from nbp_core.sampling.decoder import Decoder
from nbp_core.sampling.sampler import Sampler
from nbp_core.sampling.speculative import SpeculativeSampler, Tally

NEXT_TOKEN = "next token"


def validation_loss(
    pipeline: VideoPipeline, tokens_Nthw: Tokens, actions: Sequence[str], shape: Size3
) -> float:
    """Cross-entropy in nats per token of real clips with their actions, in blocks of a shape."""
    model, conditions = pipeline.transformer, pipeline.conditions
    return float(frame_losses(model, conditions, tokens_Nthw, actions, shape).mean())


def by_shape(bench: Bench, block: str) -> Rows:
    """Loss, speed and all figures of clips in blocks of one shape, as one row."""
    shape = parse_block_shape(block)
    pipeline, real = bench.pipeline, bench.real
    assert real.tokens_Nthw is not None
    sampling = replace(bench.sampling, block_shape=shape)
    clips, made = bench.judge.generate(
        pipeline, bench.count, bench.context_frames, sampling, bench.batch_size
    )
    row = {
        "model": pipeline.name,
        "block": block,
        "steps": pipeline.num_steps(shape, bench.context_frames),
        "loss": validation_loss(pipeline, real.tokens_Nthw, real.actions, shape),
        "frames_s": len(clips) * (CLIP_FRAMES - bench.context_frames) / made.seconds,
        "batch": bench.batch_size,
        "clips": len(clips),
        "shape_was_trained": shape in FIGURE6_SHAPES,
    }
    for figure in bench.judge.figures(clips, paired=bench.context_frames > 0):
        row[figure.metric] = figure.value
    return [row]


def speculative(bench: Bench, unit: str) -> Rows:
    """Next-token prediction, one clip at a time, without drafts or with drafts by blocks.

    Both make their steps by plain calls of the model, so their times differ by the drafts alone.
    """
    pipeline, sampling = bench.pipeline, bench.sampling
    model, device, length = pipeline.transformer, pipeline.device, pipeline.grid[0]
    count = min(bench.count, len(bench.real))
    rng = torch.Generator(device).manual_seed(sampling.seed)
    tokens = torch.zeros((1, *pipeline.grid), dtype=torch.int64, device=device)
    tallies: list[Tally] = []
    began = time.perf_counter()
    for action in pipeline.conditions.fitting(bench.real.actions[:count]):
        sampler: Sampler | SpeculativeSampler
        if unit == NEXT_TOKEN:
            layout = sequence_layout(model.config, (1, 1, 1), length)
            sampler = Sampler(Decoder(model), layout, sampling, [rng])
        else:
            shape = parse_block_shape(unit.removeprefix("drafts of "))
            sampler = SpeculativeSampler(model, shape, length, sampling, rng)
            tallies.append(sampler.tally)
        ids, _ = pipeline.conditions.ids(action, 1.0)
        for _ in sampler.stream(tokens, 0, None if ids is None else ids.to(device)):
            continue
    figures = {"sampling time per clip": (time.perf_counter() - began) / count}
    figures["tokens per forward step"] = 1.0
    if tallies:
        figures["tokens per forward step"] = float(np.mean([t.tokens_per_step for t in tallies]))
        figures["drafted tokens kept"] = float(np.mean([t.acceptance for t in tallies]))
    return [
        {"metric": metric, "of": unit, "value": value, "clips": count}
        | ({"better": "lower", "unit": "s"} if "time" in metric else {"better": "higher"})
        for metric, value in figures.items()
    ]


def _named(shapes: Sequence[Size3]) -> list[str]:
    return [format_block_shape(shape) for shape in shapes]


_UNJUDGED = ("--classifier", "--i3d", "--fvd-side", "--memorisation")
_PLAIN = (*_UNJUDGED, "--guidance", "--method", "--context-frames", "--batch-size")

EXPERIMENTS = {
    "block-sizes": Experiment(
        title="Block sizes, one elastic model (the paper's figures 6 and 7)",
        kind="blocks", units=_named(FIGURE6_SHAPES), rows=by_shape,
    ),
    "block-shapes": Experiment(
        title="Block shapes, one elastic model (the paper's table 3)",
        kind="blocks", units=_named(TABLE3_SHAPES), rows=by_shape,
    ),
    "large-blocks": Experiment(
        title="Ways to draw a whole frame at once",
        kind="evaluation", units=list(WAYS), rows=by_way, without=("--method",),
    ),
    "speculative": Experiment(
        title="Speculative decoding: the model drafts blocks for its own next-token prediction",
        kind="evaluation", units=[NEXT_TOKEN, "drafts of 1x1x8", "drafts of 1x1x16"],
        rows=speculative, has_baselines=False, without=_PLAIN,
    ),
    "attention": Experiment(
        title="Where the heads look, over many clips (the paper's figures 14 and 15)",
        kind="attention", units=_named(STUDY_SHAPES), rows=attention, has_baselines=False,
        without=(*_PLAIN, "--temperature", "--top-k", "--top-p", "--seed"),
    ),
    "longer": Experiment(
        title="Clips of 129 frames, each piece of 17 continuing the one before",
        kind="longer", units=["1x1x16", "1x16x16", CODED_AGAIN], rows=longer, has_baselines=False,
        without=("--classifier", "--memorisation"),
    ),
}  # fmt: skip
"""By name, for the verb `experiment`."""
