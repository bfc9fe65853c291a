"""Chooses once per generation how logits become tokens, by SamplingConfig and processor.

Input: logits_BSV and the places of the S tokens. Output: tokens_BS, int64.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nbp_core.config.sampling import SamplingConfig
from nbp_core.packed.formats import compute_dtype, formats_on
from nbp_core.runtime import runtime
from nbp_core.sampling.filters import Scratch, sample
from nbp_core.sampling.shared_noise import SharedNoise

Draw = Callable[[Tensor, Tensor], Tensor]


def drawing(config: SamplingConfig, rng: torch.Generator, num_places: int) -> Draw:
    """The draw function of a generation. num_places: number of tokens per latent frame."""
    if config.method == "shared-noise":
        return SharedNoise(config, rng, num_places)
    scratch = Scratch()

    def draw(logits_BSV: Tensor, places_S: Tensor) -> Tensor:
        is_here = logits_BSV.device.type == "cpu" and runtime().instructions is not None
        is_compiled = is_here and logits_BSV.dtype == compute_dtype(formats_on("cpu")[0])
        if not is_compiled:
            return sample(logits_BSV, config, rng, scratch)
        # Only here: it brings a compiler along.
        from nbp_core.packed.calls import draw

        return draw(logits_BSV.flatten(0, 1), config, rng).view(logits_BSV.shape[:2])

    return draw
