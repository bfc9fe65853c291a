"""Decoders turn the ids of a decode step into new tokens.

A decoder belongs to a model and serves many generations. A decoding holds the KV cache and the
steps of one generation. Shapes: R sequences (twice the samples with guidance), B samples, n new
positions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from nbp_core.blocks.sequences import SequenceLayout
from nbp_core.blocks.steps import DecodeStep
from nbp_core.config.sampling import SamplingConfig
from nbp_core.sampling.drawing import drawing
from nbp_core.sampling.filters import guide
from nbp_core.transformer.attention import KVCache
from nbp_core.transformer.model import BlockTransformer
from nbp_core.transformer.positions import PositionInputs


@dataclass(frozen=True, kw_only=True, slots=True)
class Setup:
    """What a generation decodes and how it samples."""

    layout: SequenceLayout
    sampling: SamplingConfig
    rngs: Sequence[torch.Generator]
    """One per sample."""
    num_rows: int
    """Sequences: the samples, or twice as many with guidance."""

    @property
    def num_samples(self) -> int:
        return len(self.rngs)


class Decoding(Protocol):
    """The decode steps of one generation, which fill its KV cache in order."""

    @property
    def cache(self) -> KVCache: ...

    def draw(self, ids_Rn: Tensor, step: DecodeStep, conditions_Rt: Tensor | None = None) -> Tensor:
        """Feeds the ids of a step and returns its new tokens (B, last - first), int64.

        conditions_Rt: condition ids of the latent frames; only the first step reads them.
        """


class Decoder(Protocol):
    """Decodes with one model and keeps buffers and graphs between generations."""

    @property
    def model(self) -> BlockTransformer: ...

    @property
    def is_ready(self) -> bool:
        """Whether the kernels are compiled. On a new machine this takes some seconds."""

    def wait_until_ready(self) -> None:
        """Returns once the kernels are compiled."""

    def decoding(self, setup: Setup) -> AbstractContextManager[Decoding]:
        """Starts a generation. Its end releases its cache."""

    def close(self) -> None:
        """Releases everything that is kept between generations."""


class PlainDecoder:
    """Runs steps as plain calls of the model's forward."""

    def __init__(self, model: BlockTransformer) -> None:
        self.model = model

    @property
    def is_ready(self) -> bool:
        return True

    def wait_until_ready(self) -> None:
        """Returns at once, since nothing is compiled."""

    def decoding(self, setup: Setup) -> AbstractContextManager[Decoding]:
        return nullcontext(PlainDecoding(self.model, setup))

    def close(self) -> None:
        """Does nothing, since nothing is kept."""


class PlainDecoding:
    """One generation of a PlainDecoder. Other decoders use it for the prefill."""

    def __init__(
        self,
        model: BlockTransformer,
        setup: Setup,
        cache: KVCache | None = None,
        inputs: PositionInputs | None = None,
    ) -> None:
        """By default the cache has room for the whole layout, and the inputs are computed."""
        self.layout = setup.layout
        self.cache = cache or model.new_cache(setup.num_rows, self.layout.length)
        self.inputs = inputs or model.position_inputs(self.layout)
        self._model = model
        self._sampling = setup.sampling
        self._num_samples = setup.num_samples
        num_places = math.prod(self.layout.blocks.grid[1:])
        self._draw = drawing(setup.sampling, setup.rngs, num_places)

    def draw(self, ids_Rn: Tensor, step: DecodeStep, conditions_Rt: Tensor | None = None) -> Tensor:
        features = self._model.features(
            ids_Rn,
            self.layout,
            start=step.start,
            cache=self.cache,
            inputs=self.inputs,
            conditions_Bt=conditions_Rt,
        )
        logits = self._model.video_logits(features[:, -(step.last - step.first) :])
        if len(ids_Rn) > self._num_samples:
            given, without = logits.chunk(2)
            logits = guide(given, without, self._sampling.guidance)
        places = self.layout.blocks.places_NS.flatten()[step.first : step.last]
        return self._draw(logits, places)
