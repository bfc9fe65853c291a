"""Pure functions: logits -> temperature -> top-k -> top-p -> tokens, whole blocks at once.

Shapes: any leading dimensions (flattened to R rows), then V vocabulary. No argument is changed.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nbp_core.config import SamplingConfig

MAX_DRAWS = 8


def filter_top_k(logits: Tensor, top_k: int) -> Tensor:
    """Keeps the k largest logits (and ties with the k-th); the rest become -inf."""
    if top_k >= logits.shape[-1]:
        return logits
    least = _largest(logits, top_k).amin(-1, keepdim=True)
    return logits.masked_fill(logits < least, -torch.inf)


def _largest(values: Tensor, k: int) -> Tensor:
    """The k largest along the last dimension, in any order."""
    if values.is_cuda:
        return values.topk(k, dim=-1, sorted=False).values
    # NumPy partitions with the processor's vectors, four times as fast as torch.topk.
    return torch.from_numpy(np.partition(values.float().numpy(), -k, axis=-1)[..., -k:])


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
    scaled_RV = logits.flatten(0, -2).float()
    if config.temperature != 1:
        # Before the filters: a nucleus is of the distribution that is sampled.
        scaled_RV = scaled_RV / config.temperature
    probs_RV = scaled_RV.softmax(dim=-1)
    urn = Urn(probs_RV)
    tokens_R = urn.draw(rng)
    if config.top_p < 1 or config.top_k < urn.vocab:
        _redraw_what_is_filtered(tokens_R, urn, config, rng)
    return tokens_R.view(logits.shape[:-1])


def _redraw_what_is_filtered(
    tokens_R: Tensor, urn: Urn, config: SamplingConfig, rng: torch.Generator
) -> None:
    """Draws again, in place, for the rows whose token the filters would have dropped."""
    probs_RV = urn.probs_RV
    # One memory for every comparison: fresh megabytes would cost more than the comparing.
    scratch = torch.empty_like(probs_RV)
    open_R = torch.arange(len(tokens_R), device=tokens_R.device)
    for attempt in range(MAX_DRAWS):
        probs = probs_RV if attempt == 0 else probs_RV[open_R]
        open_R = open_R[~_is_kept(probs, tokens_R[open_R], config, scratch[: len(open_R)])]
        if not len(open_R):
            return
        if attempt < MAX_DRAWS - 1:
            tokens_R[open_R] = urn.draw(rng, open_R)
    kept = filter_top_p(filter_top_k(probs_RV[open_R].log(), config.top_k), config.top_p)
    tokens_R[open_R] = Urn(kept.softmax(dim=-1)).draw(rng)


class Urn:
    """Rows of probabilities to draw from again and again: inversion, in two stages for speed."""

    def __init__(self, probs_RV: Tensor) -> None:
        num_rows, self.vocab = probs_RV.shape
        self.probs_RV = probs_RV
        self._chunk = _chunk_width(self.vocab)
        rest = -self.vocab % self._chunk
        padded = F.pad(probs_RV, (0, rest)) if rest else probs_RV
        self._chunks_RCc = padded.view(num_rows, -1, self._chunk)
        self._sums_RC = self._chunks_RCc.sum(-1)

    def draw(self, rng: torch.Generator, rows: Tensor | None = None) -> Tensor:
        """One token (int64) for each row, or for each of `rows`, distributed as its weights."""
        device = self.probs_RV.device
        if rows is None:
            rows = torch.arange(len(self.probs_RV), device=device)
        noise = torch.rand(2, len(rows), 1, generator=rng, device=device)
        chunk_R1 = _invert(self._sums_RC[rows], noise[0])
        inside = self._chunks_RCc[rows, chunk_R1.squeeze(1)]
        return (chunk_R1 * self._chunk + _invert(inside, noise[1])).squeeze(1)


@lru_cache(maxsize=8)
def _chunk_width(vocab: int) -> int:
    """About the square root; a divisor where there is one near, since padding copies all rows."""
    root = max(1, math.isqrt(vocab))
    return next((width for width in range(root, 4 * root) if vocab % width == 0), root)


def _invert(weights_RV: Tensor, noise_R1: Tensor) -> Tensor:
    """Where the running sum of weights passes a share `noise` of their total; never at a zero."""
    running = weights_RV.cumsum(-1)
    total = running[:, -1:].contiguous()
    index = torch.searchsorted(running, noise_R1 * total, right=True)
    # Rounding can put the share at the total: the first place that has all of it is not a zero.
    return torch.minimum(index, torch.searchsorted(running, total))


def _is_kept(
    probs_RV: Tensor, tokens_R: Tensor, config: SamplingConfig, scratch_RV: Tensor
) -> Tensor:
    """Whether top-k and then top-p would keep these tokens (R,)."""
    vocab, top_k, top_p = probs_RV.shape[1], config.top_k, config.top_p
    own_R1 = probs_RV.gather(1, tokens_R[:, None])
    is_above = torch.gt(probs_RV, own_R1, out=scratch_RV)
    rank_R = is_above.sum(-1)
    if top_p >= 1:
        return rank_R < top_k
    before_R = is_above.mul_(probs_RV).sum(-1)
    if top_k >= vocab:
        return before_R < top_p
    # The nucleus is of what top-k leaves. Most tokens are settled by bounds of that mass: the rest
    # of the k are at most as likely as this token, and at least as likely as what comes after.
    rest_R = top_k - rank_R
    most = before_R + torch.minimum(rest_R * own_R1[:, 0], 1 - before_R)
    least = before_R + rest_R / (vocab - rank_R) * (1 - before_R)
    is_kept = (rest_R > 0) & (before_R < top_p * most)
    unsure = is_kept & (before_R >= top_p * least)
    if bool(unsure.any()):
        is_kept[unsure] = before_R[unsure] < top_p * _largest(probs_RV[unsure], top_k).sum(-1)
    return is_kept
