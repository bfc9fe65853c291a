"""SAMPLER: prefill, then one forward per block. Knows token ids and layouts, not pixels.

Shapes: B batch, P condition tokens, n new tokens of a step, L positions.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nbp_core.blocks.sequences import DecodeStep, SequenceLayout
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import NO_TOKEN
from nbp_core.device import one_thread
from nbp_core.sampling.drawing import drawing
from nbp_core.sampling.filters import guide
from nbp_core.sampling.steps import whole_steps
from nbp_core.transformer.attention import KVCache
from nbp_core.transformer.model import BlockTransformer
from nbp_core.transformer.positions import PositionInputs


@dataclass(frozen=True)
class TokenStep:
    """Tokens that one forward step made: tokens_Bn at block-order ranks [first, first + n)."""

    phase: str
    tokens_Bn: Tensor
    first: int
    seconds: float
    cache_length: int
    cache_bytes: int


def synchronize(device: torch.device) -> None:
    """Waits for the device, so that a clock read after it is honest."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Sampler:
    """Decodes one batch of clips; holds the model, never the reverse."""

    def __init__(
        self,
        model: BlockTransformer,
        layout: SequenceLayout,
        sampling: SamplingConfig,
        rng: torch.Generator,
    ) -> None:
        self.model = model
        self.layout = layout
        self.sampling = sampling
        self._rng = rng
        self._draw = drawing(sampling, rng, math.prod(layout.blocks.grid[1:]))

    @torch.inference_mode()
    def stream(
        self,
        tokens_Bthw: Tensor,
        num_known_tokens: int,
        conditions_BP: Tensor | None = None,
        null_conditions_BP: Tensor | None = None,
        stop: threading.Event | None = None,
        frame_conditions_Bt: Tensor | None = None,
    ) -> Iterator[TokenStep]:
        """Yields a TokenStep per forward step; the first is the prefill of all that is known.

        tokens_Bthw covers the whole grid; its first num_known_tokens (whole latent frames) are
        the context, the rest is ignored. With null conditions each step also runs without the
        condition, for guidance. A set `stop` ends the stream before the next step.
        frame_conditions_Bt: condition ids of the latent frames, where they have different ones.
        """
        layout, model = self.layout, self.model
        ids_BL = layout.input_ids(tokens_Bthw, conditions_BP)
        batch, device = ids_BL.shape[0], ids_BL.device
        if null_conditions_BP is not None:
            ids_BL = torch.cat([ids_BL, layout.with_conditions(ids_BL, null_conditions_BP)])
            if frame_conditions_Bt is not None:
                nulls_Bt = null_conditions_BP.expand_as(frame_conditions_Bt)
                frame_conditions_Bt = torch.cat([frame_conditions_Bt, nulls_Bt])
        position_of = self._positions()
        with whole_steps(model, layout, self.sampling, ids_BL.shape[0], batch) as whole:
            if whole is None:
                cache = model.new_cache(ids_BL.shape[0], layout.length)
                inputs = model.position_inputs(layout)
            else:
                cache, inputs = whole.cache, whole.inputs
            for step in layout.decode_steps(num_known_tokens):
                if stop is not None and stop.is_set():
                    return
                began = time.perf_counter()
                new_BL = ids_BL[:, step.start : step.stop]
                sees_all = layout.sees_all(step.start, step.stop)
                if whole is not None and step.phase != "prefill" and sees_all:
                    tokens = whole.draw(model, new_BL, step, self._rng)
                else:
                    tokens = self._forward(new_BL, batch, step, cache, inputs, frame_conditions_Bt)
                self._feed_back(ids_BL, tokens, step, position_of)
                synchronize(device)
                yield TokenStep(
                    step.phase,
                    tokens,
                    step.first,
                    time.perf_counter() - began,
                    cache.length,
                    cache.num_bytes,
                )

    def _forward(
        self,
        ids_Rn: Tensor,
        batch: int,
        step: DecodeStep,
        cache: KVCache,
        inputs: PositionInputs,
        conditions_Rt: Tensor | None,
    ) -> Tensor:
        """The tokens of a step, one call after the other."""
        # Compiled work has threads of its own, from which PyTorch's would take time.
        with one_thread(self.model.is_compiled):
            features = self.model.features(
                ids_Rn,
                self.layout,
                start=step.start,
                cache=cache,
                inputs=inputs,
                conditions_Bt=conditions_Rt,
            )
            logits = self.model.video_logits(features[:, -(step.last - step.first) :])
            if len(ids_Rn) > batch:
                given, without = logits.chunk(2)
                logits = guide(given, without, self.sampling.guidance_scale)
            return self._draw(logits, self._places(step))

    def _positions(self) -> list[int]:
        """The input position of each token in block order; NO_TOKEN for the last block's."""
        source = self.layout.source_L
        position_of = torch.full((self.layout.blocks.num_tokens,), NO_TOKEN)
        fed = source != NO_TOKEN
        position_of[source[fed]] = torch.arange(self.layout.length)[fed]
        return position_of.tolist()

    def _places(self, step: DecodeStep) -> Tensor:
        """The grid places of a step's tokens."""
        return self.layout.blocks.places_NS.flatten()[step.first : step.last]

    def _feed_back(
        self, ids_BL: Tensor, tokens_Bn: Tensor, step: DecodeStep, position_of: list[int]
    ) -> None:
        """Writes new tokens where later steps will read them: the inputs of a step lie together."""
        start = position_of[step.first]
        if start == NO_TOKEN:
            return
        batch, count = tokens_Bn.shape
        ids_BL.view(-1, batch, ids_BL.shape[1])[..., start : start + count] = (
            tokens_Bn + self.layout.first_video_id
        )
