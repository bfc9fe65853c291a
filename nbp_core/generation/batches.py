"""Generates many clips with different actions and contexts, in batches.

Shapes: N clips, B clips per batch, T H W pixels, t h w tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import CLIP_FRAMES
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.records import Tokens
from nbp_core.generation.request import MAX_BATCH, GenerateRequest, batches
from nbp_core.media.files import Frames


@dataclass(frozen=True)
class ManyClips:
    """The clips as frames_NTHWC (uint8) and tokens_Nthw (int64), and their times."""

    frames_NTHWC: Frames
    tokens_Nthw: Tokens
    sampling_s: float
    """Seconds of all forward passes and their sampling."""
    seconds: float
    """Seconds from each batch's request to its last frame, summed."""


def generate_many(
    pipeline: VideoPipeline,
    actions: Sequence[str | None],
    contexts_NTHWC: Frames | None = None,
    num_frames: int = CLIP_FRAMES,
    sampling: SamplingConfig | None = None,
    batch_size: int = MAX_BATCH,
    on_clips: Callable[[int], object] | None = None,
) -> ManyClips:
    """Generates one clip per action. With contexts_NTHWC, clip i continues context i.

    Clip i has the seed sampling.seed + i. On a CPU a clip does not depend on the other clips of its
    batch. on_clips receives the number of new clips after each batch. Raises ValueError if the list
    of actions is empty, if it and the contexts differ in number, for a batch_size below 1, and as
    `generate` does.
    """
    if not actions:
        raise ValueError("there is no clip to generate: the list of actions is empty")
    if contexts_NTHWC is not None and len(contexts_NTHWC) != len(actions):
        raise ValueError(f"{len(actions)} clips cannot continue {len(contexts_NTHWC)} contexts")
    sampling = sampling or SamplingConfig()
    for action in set(actions):  # reports an unknown action before the first batch
        pipeline.conditions.ids(action, sampling.guidance)
    requests = [
        GenerateRequest(
            action=action,
            frames_THWC=None if contexts_NTHWC is None else contexts_NTHWC[clip],
            num_frames=num_frames,
            sampling=sampling,
        ).with_seed_after(clip)
        for clip, action in enumerate(actions)
    ]
    frames, tokens, sampling_s, seconds = [], [], 0.0, 0.0
    for batch in batches(requests, batch_size):
        with pipeline.start(*(requests[clip] for clip in batch)) as run:
            steps = list(run)
        sampling_s += sum(step.step_s for step in steps)
        seconds += steps[-1].elapsed
        made = [run.generation(i) for i in range(len(batch))]
        frames += [clip.frames_THWC for clip in made]
        tokens += [clip.tokens_thw for clip in made]
        if on_clips is not None:
            on_clips(len(made))
    return ManyClips(np.stack(frames), np.stack(tokens), sampling_s, seconds)
