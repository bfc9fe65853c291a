"""Pure functions: logits -> temperature -> top-k -> top-p -> tokens, whole blocks at once.

Shapes: any leading dimensions (flattened to R rows), then V vocabulary. No argument is changed.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nbp_core.config import SamplingConfig

MAX_DRAWS = 8


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
    distribution. Temperature 0 is argmax. The noise comes from `rng`, on the logits' device.

    Sorting a large vocabulary costs more than the model's own step. So a token is drawn from the
    unfiltered distribution and kept if the filters would have kept it, which gives the filtered
    distribution exactly; what a few draws leave unsettled is filtered by sorting.
    """
    if config.temperature == 0:
        return logits.argmax(dim=-1)
    # Scaled first: a nucleus is of the distribution that is sampled.
    scaled_RV = logits.float().flatten(0, -2) / config.temperature
    probs_RV = scaled_RV.softmax(dim=-1)
    tokens_R = draw(probs_RV, rng)
    open_R = torch.arange(len(tokens_R), device=tokens_R.device)
    for attempt in range(MAX_DRAWS):
        probs, scaled = (x if attempt == 0 else x[open_R] for x in (probs_RV, scaled_RV))
        is_kept = _is_kept(scaled, probs, tokens_R[open_R], config)
        open_R = open_R[~is_kept]
        if not len(open_R):
            break
        if attempt < MAX_DRAWS - 1:
            tokens_R[open_R] = draw(probs_RV[open_R], rng)
        else:
            kept = filter_top_p(filter_top_k(scaled_RV[open_R], config.top_k), config.top_p)
            tokens_R[open_R] = draw(kept.softmax(dim=-1), rng)
    return tokens_R.view(logits.shape[:-1])


def draw(probs_RV: Tensor, rng: torch.Generator) -> Tensor:
    """One token a row, distributed as its probabilities: inversion, in two stages for speed."""
    num_rows, vocab = probs_RV.shape
    chunk = max(1, math.isqrt(vocab))
    padded = F.pad(probs_RV, (0, -vocab % chunk)).view(num_rows, -1, chunk)
    noise = torch.rand(2, num_rows, 1, generator=rng, device=probs_RV.device)
    chunk_R1 = _invert(padded.sum(-1), noise[0])
    inside = padded.gather(1, chunk_R1[..., None].expand(-1, 1, chunk)).squeeze(1)
    return (chunk_R1 * chunk + _invert(inside, noise[1])).squeeze(1)


def _invert(weights_RV: Tensor, noise_R1: Tensor) -> Tensor:
    """Where the running sum of weights passes a share `noise` of their total; never at a zero."""
    running = weights_RV.cumsum(-1)
    index = torch.searchsorted(running, noise_R1 * running[:, -1:], right=True)
    last = (weights_RV > 0).long().cumsum(-1).argmax(-1, keepdim=True)
    return torch.minimum(index, last)


def _is_kept(
    scaled_RV: Tensor, probs_RV: Tensor, tokens_R: Tensor, config: SamplingConfig
) -> Tensor:
    """Whether top-k and then top-p would keep these tokens (R,)."""
    if config.top_p >= 1 and config.top_k >= scaled_RV.shape[-1]:
        return torch.ones_like(tokens_R, dtype=torch.bool)
    is_above = scaled_RV > scaled_RV.gather(1, tokens_R[:, None])
    before_R = (probs_RV * is_above).sum(-1)
    if config.top_k >= scaled_RV.shape[-1]:
        return before_R < config.top_p
    is_kept = is_above.sum(-1) < config.top_k
    if config.top_p < 1:
        # The nucleus is of what top-k leaves, whose mass is at most 1 and at least k / V.
        is_kept &= before_R < config.top_p
        least = config.top_p * config.top_k / scaled_RV.shape[-1]
        unsure = is_kept & (before_R >= least)
        if bool(unsure.any()):
            mass = probs_RV[unsure].topk(config.top_k, sorted=False).values.sum(-1)
            is_kept[unsure] = before_R[unsure] < config.top_p * mass
    return is_kept
