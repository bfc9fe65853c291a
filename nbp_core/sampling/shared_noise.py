"""Blocks drawn with the same noise in every latent frame. The paper draws each by itself.

Shapes: B batch, S tokens of a block, P places of a latent frame, V codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nbp_core.config.sampling import SamplingConfig
from nbp_core.sampling.filters import filtered_probs


class SharedNoise:
    """Gumbel-max with the same noise at the same place of every latent frame.

    Given logits that do not depend on the noise, a token is distributed exactly as the paper's; two
    frames with equal logits get equal tokens. Over several frames it is another distribution: what
    came before was drawn with the same noise. Holds (B, places, V) numbers.
    """

    def __init__(self, config: SamplingConfig, rng: torch.Generator, num_places: int) -> None:
        self._config = config
        self._rng = rng
        self._num_places = num_places
        self._noise_BPV: Tensor | None = None

    def __call__(self, logits_BSV: Tensor, places_S: Tensor) -> Tensor:
        if self._noise_BPV is None:
            batch, _, vocab = logits_BSV.shape
            noise = logits_BSV.new_empty((batch, self._num_places, vocab), dtype=torch.float32)
            self._noise_BPV = noise.exponential_(generator=self._rng)
        noise_BSV = self._noise_BPV[:, places_S.to(logits_BSV.device) % self._num_places]
        # The largest p / e, with e exponential, is the largest log p + Gumbel noise.
        return (filtered_probs(logits_BSV, self._config) / noise_BSV).argmax(-1)
