"""Pure functions: logits -> temperature -> top-k -> top-p -> tokens, whole blocks at once.

Shapes: any leading dimensions, then V vocabulary. Nothing is changed in place.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nbp_core.config import SamplingConfig


def filter_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Keeps the k largest logits (and ties with the k-th); the rest become -inf."""
    if top_k >= logits.shape[-1]:
        return logits
    least = logits.topk(top_k, dim=-1).values[..., -1:]
    return logits.masked_fill(logits < least, -torch.inf)


def filter_top_p(logits: Tensor, top_p: float) -> Tensor:
    """Keeps the fewest most likely tokens whose probabilities reach top_p; at least one."""
    if top_p >= 1:
        return logits
    ordered, order = logits.sort(dim=-1, descending=True)
    probs = ordered.softmax(dim=-1)
    before = probs.cumsum(dim=-1) - probs
    dropped = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= top_p)
    return logits.masked_fill(dropped, -torch.inf)


def guide(logits: Tensor, unconditional: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598): 1 gives the conditional logits back."""
    return unconditional + guidance_scale * (logits - unconditional)


def sample(logits: Tensor, config: SamplingConfig, rng: torch.Generator) -> Tensor:
    """Logits (..., V) -> tokens (...), int64; every position drawn on its own from its filtered
    distribution. Temperature 0 is argmax. The noise comes from `rng`, on the logits' device."""
    if config.temperature == 0:
        return logits.argmax(dim=-1)
    # Scaled first: a nucleus is of the distribution that is sampled.
    scaled = filter_top_k(logits.float() / config.temperature, config.top_k)
    probs = filter_top_p(scaled, config.top_p).softmax(dim=-1)
    # argmax(p / Exponential) is distributed as p (the Gumbel-max trick without logarithms).
    noise = torch.empty_like(probs).exponential_(generator=rng).clamp_(min=1e-30)
    return (probs / noise).argmax(dim=-1)
