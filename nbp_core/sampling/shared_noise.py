"""Sampling with the same noise in every latent frame. The paper uses independent noise.

Shapes: B batch, S tokens per block, P places per latent frame, V codes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nbp_core.config.sampling import SamplingConfig
from nbp_core.sampling.filters import filtered_probs


class SharedNoise:
    """Gumbel-max with the same noise at the same place of every latent frame.

    If the logits do not depend on the noise, each token has exactly the paper's distribution, and
    frames with equal logits get equal tokens. The joint distribution over frames differs, since
    earlier frames were drawn with the same noise. The noise has shape (B, P, V).
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
