"""A Judge has real clips and measures other clips against them. It caches features.

Shapes: N clips, M training clips, T H W pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from nbp_core.config.sampling import SamplingConfig
from nbp_core.evaluation.classifier import ActionClassifier
from nbp_core.evaluation.features import FeatureNetwork
from nbp_core.evaluation.figures import (
    Clips,
    Figure,
    accuracy_figure,
    distance_figure,
    fidelity_figures,
    hold_out,
    stillness_figures,
    variety_figures,
)
from nbp_core.evaluation.frechet import Features
from nbp_core.evaluation.metrics import Mask, Small, mostly_still_places, still_places
from nbp_core.generation.batches import ManyClips, generate_many
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.tokenizer.interface import Tokenizer, to_clip, to_frames

REAL, GENERATED = "real clips", "generated clips"
BATCH = 4

Progress = Callable[[int], object] | None


@dataclass(frozen=True, kw_only=True)
class Tools:
    """Networks and data for a judge's figures; each may be missing."""

    networks: Sequence[FeatureNetwork] = ()
    classifier: ActionClassifier | None = None
    train_MD: Small | None = None
    """Training clips as rows of metrics.small, for the distance to the nearest of them."""


@dataclass
class Judge:
    """Held-out real clips, which are measured too, and the other real clips as reference."""

    held: Clips
    reference: Clips
    still_of_action: dict[str, Mask]
    tools: Tools
    token_side: int = 1
    """Side of a token in pixels; needed for clips with tokens."""
    _reference_features: dict[str, Features] = field(default_factory=dict)

    @classmethod
    def of(cls, real: Clips, count: int, tools: Tools) -> Judge:
        """A judge that holds out at most `count` of the real clips.

        Raises ValueError for too few real clips and for actions that the classifier does not know.
        """
        if tools.classifier is not None:
            tools.classifier.indices(real.actions)
        held, reference = hold_out(real, count)
        labels = np.array(real.actions)
        still = {
            action: mostly_still_places(real.frames_NTHWC[np.flatnonzero(labels == action)])
            for action in sorted(set(real.actions))
        }
        return cls(held, reference, still, tools)

    def baselines(
        self, tokenizer: Tokenizer | None, device: str, on_clips: Progress = None
    ) -> list[Figure]:
        """Figures of the held-out real clips, the best possible, and of their reconstruction."""
        if tokenizer is None:
            return self.figures(self.held, paired=True)
        self.token_side = tokenizer.config.space_factor
        real, made = reconstruct_many(tokenizer, self.held, device, on_clips)
        return [
            *fidelity_figures(real, made),
            *self.figures(real, paired=True),
            *self.figures(made, paired=True),
        ]

    def generate(
        self,
        pipeline: VideoPipeline,
        count: int,
        context_frames: int,
        sampling: SamplingConfig,
        batch_size: int,
        on_clips: Progress = None,
    ) -> tuple[Clips, ManyClips]:
        """Generates clips to measure; returns them as Clips and with their times.

        Clip i has the action of held-out clip i, unless the model has no actions, and, with
        context_frames, its first frames. After the last held-out clip it starts over.
        """
        rows = np.arange(count) % len(self.held)
        actions = [self.held.actions[row] for row in rows]
        contexts = self.held.frames_NTHWC[rows, :context_frames] if context_frames else None
        length = self.held.frames_NTHWC.shape[1]
        made = generate_many(
            pipeline, pipeline.conditions.fitting(actions), contexts, length, sampling, batch_size,
            on_clips,
        )  # fmt: skip
        clips = Clips(
            name=GENERATED,
            frames_NTHWC=made.frames_NTHWC,
            actions=actions,
            tokens_Nthw=made.tokens_Nthw,
        )
        return clips, made

    def figures(self, clips: Clips, paired: bool) -> list[Figure]:
        """All figures of some clips.

        paired: clip i begins like held-out clip i, so it should be still where that clip is still.
        Otherwise it should be still where most real clips of its action are.
        """
        tools = self.tools
        found = []
        for network in tools.networks:
            features = network.features(clips.frames_NTHWC)
            reference = self.features_of_reference(network)
            size = len(self.held)
            found.append(distance_figure(network.name, clips.name, features, reference, size))
        if tools.classifier is not None:
            found.append(accuracy_figure(tools.classifier, clips))
        found += stillness_figures(clips, self.still(clips, paired), self.token_side)
        return found + variety_figures(clips, tools.train_MD)

    def features_of_reference(self, network: FeatureNetwork) -> Features:
        """Features of the real clips that are not held out; computed once."""
        if network.name not in self._reference_features:
            self._reference_features[network.name] = network.features(self.reference.frames_NTHWC)
        return self._reference_features[network.name]

    def still(self, clips: Clips, paired: bool) -> list[Mask]:
        """Where each clip should not move, (H, W) each: see `figures`."""
        if paired:
            of_held = [still_places(frames) for frames in self.held.frames_NTHWC]
            return [of_held[i % len(of_held)] for i in range(len(clips))]
        nowhere = np.zeros(self.held.frames_NTHWC.shape[2:4], np.bool_)
        return [self.still_of_action.get(action, nowhere) for action in clips.actions]


@torch.inference_mode()
def reconstruct_many(
    tokenizer: Tokenizer, real: Clips, device: str, on_clips: Progress = None
) -> tuple[Clips, Clips]:
    """(the real clips with their tokens, their reconstruction with the same tokens)."""
    frames, tokens = [], []
    for start in range(0, len(real), BATCH):
        batch = real.frames_NTHWC[start : start + BATCH]
        ids = tokenizer.encode(to_clip(batch, device))
        frames.append(to_frames(tokenizer.decode(ids)))
        tokens.append(ids.cpu().numpy())
        if on_clips is not None:
            on_clips(len(batch))
    encoded, made = (
        Clips(
            name=name,
            frames_NTHWC=pixels,
            actions=real.actions,
            looks=real.looks,
            tokens_Nthw=np.concatenate(tokens),
        )
        for name, pixels in (
            (real.name, real.frames_NTHWC),
            (f"reconstruction of {real.name}", np.concatenate(frames)),
        )
    )
    return encoded, made
