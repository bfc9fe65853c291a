"""SAMPLER: the loop of prefill and decode steps. It knows token ids and layouts, not pixels.

Shapes: B batch, P condition tokens, n new tokens per step, L positions.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nbp_core.blocks.sequences import SequenceLayout
from nbp_core.blocks.steps import DecodeStep
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import NO_TOKEN
from nbp_core.sampling.decoder import Decoder, Setup


@dataclass(frozen=True)
class TokenStep:
    """The tokens of one step: tokens_Bn at block-order ranks [first, first + n)."""

    phase: str
    tokens_Bn: Tensor
    first: int
    seconds: float
    cache_length: int
    cache_bytes: int


def synchronize(device: torch.device) -> None:
    """Waits for the device, so that a time taken afterwards includes its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Sampler:
    """Samples one batch of clips with a decoder."""

    def __init__(
        self,
        decoder: Decoder,
        layout: SequenceLayout,
        sampling: SamplingConfig,
        rngs: Sequence[torch.Generator],
        is_decoding: Callable[[], bool] = lambda: False,
    ) -> None:
        """rngs: one per clip, so that a clip does not depend on its batch.

        is_decoding: asked before each step, whether another thread decodes frames now. The step of
        a small model then leaves it a core.
        """
        self.layout = layout
        self.sampling = sampling
        self._decoder = decoder
        self._rngs = rngs
        self._is_decoding = is_decoding

    @torch.inference_mode()
    def stream(
        self,
        tokens_Bthw: Tensor,
        num_known_tokens: int,
        conditions_BP: Tensor | None = None,
        null_conditions_BP: Tensor | None = None,
        stop: threading.Event | None = None,
        frame_conditions_Bt: Tensor | None = None,
    ) -> Generator[TokenStep]:
        """Yields one TokenStep per step. The first step is the prefill of everything known.

        tokens_Bthw covers the whole grid. Its first num_known_tokens (whole latent frames) are the
        context; the rest is ignored. With null conditions each step also runs without the
        condition, for guidance. Setting `stop` ends the stream before the next step.
        frame_conditions_Bt: condition ids of the latent frames, if they differ.
        """
        layout = self.layout
        ids_BL = layout.input_ids(tokens_Bthw, conditions_BP)
        device = ids_BL.device
        if null_conditions_BP is not None:
            ids_BL = torch.cat([ids_BL, layout.with_conditions(ids_BL, null_conditions_BP)])
            if frame_conditions_Bt is not None:
                nulls_Bt = null_conditions_BP.expand_as(frame_conditions_Bt)
                frame_conditions_Bt = torch.cat([frame_conditions_Bt, nulls_Bt])
        position_of = self._positions()
        setup = Setup(
            layout=layout,
            sampling=self.sampling,
            rngs=self._rngs,
            num_rows=len(ids_BL),
            is_decoding=self._is_decoding,
        )
        with self._decoder.decoding(setup) as decoding:
            for step in layout.decode_steps(num_known_tokens):
                if stop is not None and stop.is_set():
                    return
                began = time.perf_counter()
                tokens = decoding.draw(ids_BL[:, step.start : step.stop], step, frame_conditions_Bt)
                self._feed_back(ids_BL, tokens, step, position_of)
                synchronize(device)
                yield TokenStep(
                    step.phase,
                    tokens,
                    step.first,
                    time.perf_counter() - began,
                    decoding.cache.length,
                    decoding.cache.num_bytes,
                )

    def _positions(self) -> list[int]:
        """The input position of each token in block order; NO_TOKEN for the last block's."""
        source = self.layout.source_L
        position_of = torch.full((self.layout.blocks.num_tokens,), NO_TOKEN)
        fed = source != NO_TOKEN
        position_of[source[fed]] = torch.arange(self.layout.length)[fed]
        return position_of.tolist()

    def _feed_back(
        self, ids_BL: Tensor, tokens_Bn: Tensor, step: DecodeStep, position_of: list[int]
    ) -> None:
        """Writes new tokens to the input positions that later steps feed."""
        start = position_of[step.first]
        if start == NO_TOKEN:
            return
        batch, count = tokens_Bn.shape
        ids_BL.view(-1, batch, ids_BL.shape[1])[..., start : start + count] = (
            tokens_Bn + self.layout.first_video_id
        )
