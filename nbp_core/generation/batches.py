"""Many clips at once: batches of different actions and contexts. No steps, no manifests.

Shapes: N clips, B of a batch, T H W pixels, t h w tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import CLIP_FRAMES
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.records import Tokens
from nbp_core.generation.request import RunRequest
from nbp_core.generation.run import GenerationRun
from nbp_core.generation.segments import plan_segments
from nbp_core.media.files import Frames


@dataclass(frozen=True)
class ManyClips:
    """frames_NTHWC uint8 and tokens_Nthw, with their time."""

    frames_NTHWC: Frames
    tokens_Nthw: Tokens
    sampling_s: float
    """Seconds of the forward steps."""
    seconds: float
    """From asking for each batch to its last frame."""


def generate_many(
    pipeline: VideoPipeline,
    actions: Sequence[str | None],
    contexts_NTHWC: Frames | None = None,
    num_frames: int = CLIP_FRAMES,
    sampling: SamplingConfig | None = None,
    batch_size: int = 16,
    on_clips: Callable[[int], object] | None = None,
) -> ManyClips:
    """One clip for each action, gone on from its context where there are any.

    Batch b is drawn with seed + b, so the same call gives the same clips; a clip depends on its
    batch. on_clips is told how many have been made since the last time. Raises ValueError as
    VideoPipeline.generate does.
    """
    sampling = sampling or SamplingConfig()
    for action in set(actions):  # an unknown one is said before the first batch
        pipeline.conditions.ids(action, 1, sampling.guidance_scale)
    frames, tokens, sampling_s, seconds = [], [], 0.0, 0.0
    for batch, start in enumerate(range(0, len(actions), batch_size)):
        rows = slice(start, start + batch_size)
        contexts = None if contexts_NTHWC is None else contexts_NTHWC[rows]
        seeded = replace(sampling, seed=sampling.seed + batch)
        run = _run(pipeline, actions[rows], contexts, num_frames, seeded)
        steps = list(run)
        sampling_s += sum(step.step_s for step in steps)
        seconds += steps[-1].elapsed
        made = [run.generation(i) for i in range(len(actions[rows]))]
        frames += [clip.frames_THWC for clip in made]
        tokens += [clip.tokens_thw for clip in made]
        if on_clips is not None:
            on_clips(len(made))
    return ManyClips(np.stack(frames), np.stack(tokens), sampling_s, seconds)


def _run(
    pipeline: VideoPipeline,
    actions: Sequence[str | None],
    contexts_BTHWC: Frames | None,
    num_frames: int,
    sampling: SamplingConfig,
) -> GenerationRun:
    shape = sampling.block_shape or pipeline.transformer.config.block_shape
    context = None
    if contexts_BTHWC is not None:
        context = torch.cat([pipeline.to_clip(frames_THWC) for frames_THWC in contexts_BTHWC])
    num_context = 0 if context is None else context.shape[2]
    ids = [pipeline.conditions.ids(action, 1, sampling.guidance_scale) for action in actions]
    chosen = [row.to(pipeline.device) for row, _ in ids if row is not None]
    nulls = [row.to(pipeline.device) for _, row in ids if row is not None]
    if nulls and len(nulls) < len(actions):
        raise ValueError("guidance needs an action for every clip")
    grid = pipeline.tokenizer.config
    request = RunRequest(
        num_samples=len(actions),
        context_BCTHW=context,
        conditions_BP=torch.cat(chosen) if chosen else None,
        null_conditions_BP=torch.cat(nulls) if nulls else None,
        segments=plan_segments(num_context, num_frames, pipeline.grid[0], grid),
        num_steps=pipeline.num_steps(shape, num_context, num_frames),
        num_frames=num_frames,
        block_shape=shape,
        sampling=sampling,
        manifest={},
    )
    return GenerationRun(pipeline.transformer, pipeline.tokenizer, request, None)
