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

from nbp_core.config.sampling import SamplingConfig

MAX_TESTS = 8
"""Tokens of a row that are put to the filters before they are sorted out."""
DRAWS = 16
"""Tokens drawn at once for a row whose token was dropped."""
UNFILTERED = SamplingConfig(top_k=2**31, top_p=1.0)


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


def filtered_probs(logits: Tensor, config: SamplingConfig) -> Tensor:
    """The distribution that the paper's sampling draws from: (..., V), after all filters."""
    if config.temperature == 0:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    scaled = logits.float() / config.temperature
    return filter_top_p(filter_top_k(scaled, config.top_k), config.top_p).softmax(-1)


def guide(logits: Tensor, unconditional: Tensor, guidance_scale: float) -> Tensor:
    """Classifier-free guidance (arXiv 2207.12598): 1 gives the conditional logits back."""
    return unconditional + guidance_scale * (logits - unconditional)


class Scratch:
    """Memory that one decoding draws in, step after step: fresh megabytes cost more than what is
    computed in them, since the system clears every page first."""

    def __init__(self) -> None:
        self._buffers: dict[str, Tensor] = {}

    def rows(self, name: str, num_rows: int, like_RV: Tensor) -> Tensor:
        """(num_rows, V) float32 of any content, until the same name is asked for again."""
        held, vocab = self._buffers.get(name), like_RV.shape[1]
        if held is None or held.shape[1] != vocab or len(held) < num_rows:
            held = like_RV.new_empty((num_rows, vocab), dtype=torch.float32)
            self._buffers[name] = held
        return held[:num_rows]


def sample(
    logits: Tensor, config: SamplingConfig, rng: torch.Generator, scratch: Scratch | None = None
) -> Tensor:
    """Logits (..., V) -> tokens (...), int64; every position drawn on its own from its filtered
    distribution. Temperature 0 is argmax. The noise comes from `rng`, on the logits' device.
    `scratch` is for whoever calls again and again.

    Sorting a large vocabulary costs more than the model's own step. So a token is drawn from the
    unfiltered distribution and kept if the filters would have kept it, which gives the filtered
    distribution exactly; what a few draws leave unsettled is filtered by sorting. A GPU sorts at
    once: asking what is settled would make it wait.
    """
    if config.temperature == 0:
        return logits.argmax(dim=-1)
    if logits.is_cuda:
        noise = torch.rand((*logits.shape[:-1], 1), generator=rng, device=logits.device)
        return sample_by_sorting(logits, config, noise)
    scratch = scratch or Scratch()
    logits_RV = logits.flatten(0, -2)
    odds_RV = scratch.rows("odds", len(logits_RV), logits_RV).copy_(logits_RV)
    odds_RV -= odds_RV.amax(-1, keepdim=True)
    if config.temperature != 1:
        # Before the filters: a nucleus is of the distribution that is sampled.
        odds_RV /= config.temperature
    urn = Urn(odds_RV.exp_())
    tokens_R = urn.draw(rng)
    if config.top_p < 1 or config.top_k < urn.vocab:
        _redraw_what_is_filtered(tokens_R, urn, config, rng, scratch)
    return tokens_R.view(logits.shape[:-1])


def sample_by_sorting(logits: Tensor, config: SamplingConfig, noise: Tensor) -> Tensor:
    """As `sample`, from noise (..., 1) in [0, 1), in a fixed number of calls that never ask the
    device for a value: what a CUDA graph can hold."""
    if config.temperature == 0:
        return logits.argmax(dim=-1)
    ordered, order = logits.sort(dim=-1, descending=True)
    scaled = ordered.float() / config.temperature
    odds = (scaled - scaled[..., :1]).exp()
    if config.top_k < logits.shape[-1]:
        odds = odds.masked_fill(ordered < ordered[..., config.top_k - 1, None], 0)
    if config.top_p < 1:
        running = odds.cumsum(dim=-1)
        odds = odds.masked_fill(running - odds >= config.top_p * running[..., -1:], 0)
    index = _invert(odds.flatten(0, -2), noise.flatten(0, -2))
    return order.flatten(0, -2).gather(-1, index).view(logits.shape[:-1])


def _redraw_what_is_filtered(
    tokens_R: Tensor, urn: Urn, config: SamplingConfig, rng: torch.Generator, scratch: Scratch
) -> None:
    """Draws again, in place, for the rows whose token the filters would have dropped."""
    odds, open_R = urn.odds_RV, torch.arange(len(tokens_R), device=tokens_R.device)
    for _ in range(MAX_TESTS):
        own_R1 = odds.gather(1, tokens_R[open_R, None])
        is_above = scratch.rows("above", len(open_R), odds)
        is_dropped = ~_is_kept(odds, own_R1, urn.total_R[open_R], config, is_above)
        open_R, dropped_R1 = open_R[is_dropped], own_R1[is_dropped]
        if not len(open_R):
            return
        odds = scratch.rows("open", len(open_R), odds)
        torch.index_select(urn.odds_RV, 0, open_R, out=odds)
        tokens_R[open_R] = _likelier(urn, rng, open_R, dropped_R1)
    kept = filter_top_p(filter_top_k(odds.log(), config.top_k), config.top_p)
    tokens_R[open_R] = Urn(kept.softmax(dim=-1)).draw(rng)


def _likelier(urn: Urn, rng: torch.Generator, rows_R: Tensor, dropped_R1: Tensor) -> Tensor:
    """The first of some draws for each of the rows that is likelier than the token dropped there.

    What is not would be dropped as well. Where none is likelier, any of them.
    """
    drawn_RN = urn.draw(rng, rows_R.repeat_interleave(DRAWS)).view(-1, DRAWS)
    is_likelier = urn.odds_RV[rows_R[:, None], drawn_RN] > dropped_R1
    return drawn_RN.gather(1, is_likelier.byte().argmax(1, keepdim=True)).squeeze(1)


class Urn:
    """Rows of odds (probabilities but for a factor a row) to draw from again and again: inversion,
    in two stages for speed."""

    def __init__(self, odds_RV: Tensor) -> None:
        num_rows, self.vocab = odds_RV.shape
        self.odds_RV = odds_RV
        self._chunk = _chunk_width(self.vocab)
        rest = -self.vocab % self._chunk
        padded = F.pad(odds_RV, (0, rest)) if rest else odds_RV
        self._chunks_RCc = padded.view(num_rows, -1, self._chunk)
        self._sums_RC = self._chunks_RCc.sum(-1)
        self.total_R = self._sums_RC.sum(-1)

    def draw(self, rng: torch.Generator, rows: Tensor | None = None) -> Tensor:
        """One token (int64) for each row, or for each of `rows`, distributed as its odds."""
        device = self.odds_RV.device
        if rows is None:
            rows = torch.arange(len(self.odds_RV), device=device)
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
    odds_RV: Tensor, own_R1: Tensor, total_R: Tensor, config: SamplingConfig, scratch_RV: Tensor
) -> Tensor:
    """Whether top-k and then top-p would keep a token of each row, given its odds."""
    vocab, top_k, top_p = odds_RV.shape[1], config.top_k, config.top_p
    is_above = torch.gt(odds_RV, own_R1, out=scratch_RV)
    rank_R = is_above.sum(-1)
    if top_p >= 1:
        return rank_R < top_k
    before_R = is_above.mul_(odds_RV).sum(-1)
    if top_k >= vocab:
        return before_R < top_p * total_R
    # The nucleus is of what top-k leaves. Most tokens are settled by bounds of that mass: the rest
    # of the k are at most as likely as this token, and at least as likely as what comes after.
    rest_R = top_k - rank_R
    most = before_R + torch.minimum(rest_R * own_R1[:, 0], total_R - before_R)
    least = before_R + rest_R / (vocab - rank_R) * (total_R - before_R)
    is_kept = (rest_R > 0) & (before_R < top_p * most)
    unsure = is_kept & (before_R >= top_p * least)
    if bool(unsure.any()):
        is_kept[unsure] = before_R[unsure] < top_p * _largest(odds_RV[unsure], top_k).sum(-1)
    return is_kept
