"""Chooses once per generation how logits become tokens, by SamplingConfig and processor.

Input: logits_BSV and the places of the S tokens. Output: tokens_BS, int64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nbp_core.config.sampling import SamplingConfig
from nbp_core.packed.formats import compute_dtype, formats_on
from nbp_core.runtime import runtime
from nbp_core.sampling.filters import Scratch, sample
from nbp_core.sampling.shared_noise import SharedNoise

Draw = Callable[[Tensor, Tensor], Tensor]


def drawing(config: SamplingConfig, rngs: Sequence[torch.Generator], num_places: int) -> Draw:
    """The draw function of a generation. num_places: number of tokens per latent frame.

    Each sample draws with its own generator, so its tokens do not depend on its batch.
    """
    scratch = Scratch()
    draws = [_drawing_of_one(config, rng, num_places, scratch) for rng in rngs]

    def draw(logits_BSV: Tensor, places_S: Tensor) -> Tensor:
        each = zip(draws, logits_BSV.chunk(len(draws)), strict=True)
        return torch.cat([draw_one(logits_1SV, places_S) for draw_one, logits_1SV in each])

    return draw


def _drawing_of_one(
    config: SamplingConfig, rng: torch.Generator, num_places: int, scratch: Scratch
) -> Draw:
    """The draw function of one sample."""
    if config.method == "shared-noise":
        return SharedNoise(config, rng, num_places)

    def draw(logits_1SV: Tensor, places_S: Tensor) -> Tensor:
        is_here = logits_1SV.device.type == "cpu" and runtime().instructions is not None
        is_compiled = is_here and logits_1SV.dtype == compute_dtype(formats_on("cpu")[0])
        if not is_compiled:
            return sample(logits_1SV, config, rng, scratch)
        # Imported here because it loads a compiler.
        from nbp_core.packed.calls import draw

        return draw(logits_1SV[0], config, rng)[None]

    return draw
