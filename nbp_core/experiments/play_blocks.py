"""Compares block shapes for plays: loss with and without the keys, keys obeyed, and time.

In large blocks many tokens are drawn without knowledge of each other. That should cost less, the
more a key says about the next frame.
Shapes: N episodes, T H W frames, t h w tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import FIGURE6_SHAPES, Size3, format_block_shape, parse_block_shape
from nbp_core.data.keys import FRAMES_PER_KEY, KeyClip
from nbp_core.data.tokens import encode_key_clips
from nbp_core.evaluation.classifier import ActionClassifier
from nbp_core.evaluation.held_out import frame_losses
from nbp_core.evaluation.keys import LEAST_SHIFT, keys_read, pan_shifts, played, psnr_over_time
from nbp_core.experiments.experiment import Rows
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.recording import World
from nbp_core.generation.records import Tokens

BLOCKS = tuple(map(format_block_shape, FIGURE6_SHAPES))
"""The shapes of the paper's figure 6; each is within one latent frame, which has one key."""
LOSS_KEYS = 8
"""Keys per episode whose latent frames have a loss: a sequence has nine latent frames."""
PSNR_AFTER = 4
"""Latent frames after which generated frames are compared with the real ones."""


@dataclass(frozen=True, kw_only=True)
class PlayBench:
    """What all block shapes share: a model and real episodes of one world.

    reader: names the keys of arm episodes; pans of the camera are measured as shifts instead.
    """

    pipeline: VideoPipeline
    world: World
    episodes: Sequence[KeyClip]
    sampling: SamplingConfig
    reader: ActionClassifier | None = None

    @cached_property
    def heads(self) -> list[KeyClip]:
        """The part of each episode whose tokens have a loss."""
        count = min(LOSS_KEYS, *(len(clip.keys) for clip in self.episodes))
        return [
            replace(
                clip,
                frames_THWC=clip.frames_THWC[: 1 + count * FRAMES_PER_KEY],
                keys=clip.keys[:count],
            )
            for clip in self.episodes
        ]

    @cached_property
    def tokens_Nthw(self) -> Tokens:
        """Tokens of the heads."""
        pipeline = self.pipeline
        return encode_key_clips(
            pipeline.tokenizer, self.heads, self.world, pipeline.device
        ).tokens_Nthw.astype(np.int64)


def play_blocks(
    bench: PlayBench, block: str, on_episode: Callable[[int], object] | None = None
) -> Rows:
    """Loss, obedience and time of one block shape, as one row.

    Losses are in nats per token, of real episodes after their first latent frame. For the other
    figures all keys of each episode are played from its first frame.
    """
    pipeline, shape = bench.pipeline, parse_block_shape(block)
    made, seconds = _played(bench, shape, on_episode)
    known = [clip.keys for clip in bench.heads]
    withheld = [(None,) * len(keys) for keys in known]
    with_keys, without = (_loss(bench, shape, keys) for keys in (known, withheld))
    psnr = [
        psnr_over_time(real, clip)[PSNR_AFTER - 1]
        for real, clip in zip(bench.episodes, made, strict=True)
    ]
    _, *side = pipeline.grid
    return [
        {
            "model": pipeline.name,
            "block": block,
            "steps": int(np.prod(side) // np.prod(shape)),
            "loss": with_keys,
            "loss without keys": without,
            **_obeyed(bench, made),
            f"PSNR after {PSNR_AFTER} latent frames": float(np.mean(psnr)),
            "sampling ms per latent frame": 1e3 * float(np.median(seconds)),
            "clips": len(made),
        }
    ]


def _played(
    bench: PlayBench, shape: Size3, on_episode: Callable[[int], object] | None
) -> tuple[list[KeyClip], list[float]]:
    """The episodes that the model makes, and the seconds that sampling each latent frame took."""
    made, seconds = [], []
    for number, clip in enumerate(bench.episodes):
        seed = bench.sampling.seed + number
        sampling = replace(bench.sampling, block_shape=shape, seed=seed)
        episode, steps = played(bench.pipeline, clip, bench.world, sampling)
        made.append(episode)
        seconds += [step.sample_s for step in steps]
        if on_episode is not None:
            on_episode(1)
    return made, seconds


def _loss(bench: PlayBench, shape: Size3, keys: Sequence[Sequence[str | None]]) -> float:
    model, conditions = bench.pipeline.transformer, bench.pipeline.conditions
    actions = [None] * len(keys)
    losses_Nt = frame_losses(model, conditions, bench.tokens_Nthw, actions, shape, keys)
    return float(losses_Nt[:, 1:].mean())


def _obeyed(bench: PlayBench, made: Sequence[KeyClip]) -> dict[str, float]:
    """The share of keys that the episodes obey, named after its measure."""
    if bench.reader is None:
        shifts = np.concatenate([pan_shifts(clip) for clip in made])
        return {"pan keys obeyed": float((shifts > LEAST_SHIFT).mean())} if shifts.size else {}
    named = np.concatenate([keys_read(bench.reader, clip) for clip in made])
    return {"arm keys read right": float(named.mean())}
