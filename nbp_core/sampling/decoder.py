"""Decoders turn the ids of a decode step into new tokens.

A decoder belongs to a model and serves many generations. A decoding holds the KV cache and the
steps of one generation. Shapes: R sequences (twice the samples with guidance), B samples, n new
positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from nbp_core.blocks.sequences import SequenceLayout
from nbp_core.blocks.steps import DecodeStep
from nbp_core.config.sampling import SamplingConfig
from nbp_core.sampling.drawing import drawing
from nbp_core.sampling.filters import guided
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
    is_decoding: Callable[[], bool] = lambda: False
    """Asked before each step: whether another thread decodes frames now. Only the number of threads
    of compiled steps depends on it."""

    @property
    def num_samples(self) -> int:
        return len(self.rngs)


class Decoding:
    """The decode steps of one generation, as plain calls of the model that fill its KV cache in
    order. Subclasses run some of the steps faster."""

    def __init__(
        self,
        model: BlockTransformer,
        setup: Setup,
        cache: KVCache | None = None,
        inputs: PositionInputs | None = None,
    ) -> None:
        """By default the cache has room for the whole layout, and the inputs are computed."""
        self.setup = setup
        self.layout = setup.layout
        self.cache = cache or model.new_cache(setup.num_rows, self.layout.length)
        self.inputs = inputs or model.position_inputs(self.layout)
        self._model = model
        num_places = math.prod(self.layout.blocks.grid[1:])
        self._draw = drawing(setup.sampling, setup.rngs, num_places)

    def draw(self, ids_Rn: Tensor, step: DecodeStep, conditions_Rt: Tensor | None = None) -> Tensor:
        """Feeds the ids of a step and returns its new tokens (B, last - first), int64.

        conditions_Rt: condition ids of the latent frames; only the first step reads them.
        """
        features = self._model.features(
            ids_Rn,
            self.layout,
            start=step.start,
            cache=self.cache,
            inputs=self.inputs,
            conditions_Bt=conditions_Rt,
        )
        logits = self._model.video_logits(features[:, -(step.last - step.first) :])
        logits = guided(logits, self.setup.num_samples, self.setup.sampling)
        places = self.layout.blocks.places_NS.flatten()[step.first : step.last]
        return self._draw(logits, places)


class Decoder:
    """Decodes with one model, here by plain calls of PyTorch. Subclasses keep buffers and graphs
    between generations."""

    def __init__(self, model: BlockTransformer) -> None:
        self.model = model

    @property
    def is_ready(self) -> bool:
        """Whether the kernels are compiled. On a new machine this takes some seconds."""
        return True

    def wait_until_ready(self) -> None:
        """Returns once the kernels are compiled."""

    def decoding(self, setup: Setup) -> AbstractContextManager[Decoding]:
        """Starts a generation. Its end releases its cache."""
        return nullcontext(Decoding(self.model, setup))

    def close(self) -> None:
        """Releases everything that is kept between generations."""
