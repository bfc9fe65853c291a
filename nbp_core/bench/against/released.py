"""The released sampling procedure, written plainly in PyTorch from its description, as a baseline.

It decodes with a KV cache, but joins the keys and values of all earlier steps anew at every step,
attends under a mask that hides nothing, computes the head for every position of the prefill, and
filters the logits of one position at a time by sorting them. Source: sampler and transformer of the
paper's released code. Weights are random, in one dtype. Shapes: B sequences, L new positions, M all
positions, K heads, E head width, N layers, V vocabulary.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from nbp_core.bench.against.figures import Against, median_ms
from nbp_core.bench.floor import K600_KNOWN_FRAMES, time_steps
from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.presets import PAPER_PRESETS
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import Size3, format_block_shape
from nbp_core.models.speed_only import random_packed, random_plain
from nbp_core.packed.formats import WeightFormat
from nbp_core.packed.model import PackedTransformer
from nbp_core.transformer.attention import Attention
from nbp_core.transformer.layer import Layer
from nbp_core.transformer.model import BlockTransformer

BLOCKS: tuple[Size3, ...] = ((1, 1, 16), (1, 1, 1))
"""Rows and tokens."""


def compare(
    preset: str, weights: WeightFormat, dtype: torch.dtype, num_steps: int, rounds: int
) -> list[Against]:
    """Times one of the paper's sizes in the K600 protocol, by rows and by tokens.

    weights: our format. dtype: theirs. Raises ValueError if there is not enough memory.
    """
    config = PAPER_PRESETS[preset]
    ours, theirs = random_packed(config, "cpu", weights), random_plain(config, dtype)
    return [_compare_block(ours, theirs, preset, shape, num_steps, rounds) for shape in BLOCKS]


def _compare_block(
    ours: PackedTransformer,
    theirs: BlockTransformer,
    preset: str,
    shape: Size3,
    num_steps: int,
    rounds: int,
) -> Against:
    # Random weights serve every block shape equally well.
    ours.config = replace(ours.config, block_shape=shape)
    layout = sequence_layout(ours.config)
    known = K600_KNOWN_FRAMES * layout.blocks.num_tokens // layout.blocks.grid[0]
    our_ms, their_ms = median_ms(
        lambda: time_steps(ours, layout, known, 1 + num_steps)[1:],
        lambda: _time_theirs(theirs, known, layout.blocks.block_len, num_steps),
        rounds,
    )
    return Against(
        other="released",
        model=preset,
        block=format_block_shape(shape),
        our_format=ours.weight_format,
        their_dtype=str(theirs.head_weight.dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        steps=num_steps,
        our_ms=our_ms,
        their_ms=their_ms,
    )


def _time_theirs(
    model: BlockTransformer, num_known: int, block_len: int, num_steps: int
) -> list[float]:
    """Seconds of each decode step after the prefill."""
    sampler = ReleasedSampler(model, block_len, SamplingConfig())
    tokens_BL = sampler.step(torch.randint(0, model.config.codebook_size, (1, num_known)))
    seconds = []
    for _ in range(num_steps):
        began = time.perf_counter()
        tokens_BL = sampler.step(tokens_BL)
        seconds.append(time.perf_counter() - began)
    return seconds


class ReleasedSampler:
    """Continues a sequence of tokens block by block. For models of the `plain` layout."""

    def __init__(self, model: BlockTransformer, block_len: int, sampling: SamplingConfig) -> None:
        self._model, self._block_len, self._sampling = model, block_len, sampling
        self._kept: list[Tensor] = []
        """Keys and values of each step: (N, 2, B, K, L, E)."""

    @torch.no_grad()
    def step(self, tokens_BL: Tensor) -> Tensor:
        """The next block's tokens from the last one's. The first call takes all known tokens."""
        logits = self.logits(tokens_BL)[:, -self._block_len :] / self._sampling.temperature
        filtered = [filtered_logits(row_BV, self._sampling) for row_BV in logits.unbind(1)]
        probs = torch.stack(filtered, 1).softmax(-1)
        return torch.cat([torch.multinomial(row_BV, 1) for row_BV in probs.unbind(1)], 1)

    @torch.no_grad()
    def logits(self, tokens_BL: Tensor) -> Tensor:
        """Logits (B, L, V) of new positions, whose keys and values are kept."""
        model, past = self._model, torch.cat(self._kept, -2) if self._kept else None
        start = 0 if past is None else past.shape[-2]
        stop = start + tokens_BL.shape[1]
        x_BLD = model.tok_emb(tokens_BL) + model.pos_emb[:, start:stop]
        block_L = torch.arange(start, stop) // self._block_len
        mask_LM = block_L[:, None] >= torch.arange(stop) // self._block_len
        made = []
        for i, part in enumerate(model.layers):
            layer = cast(Layer, part)
            earlier = None if past is None else past[i]
            seen_BLD, new = _attend(layer.attention, layer.norm_1(x_BLD), earlier, mask_LM)
            x_BLD = x_BLD + seen_BLD
            x_BLD = x_BLD + layer.mlp(layer.norm_2(x_BLD))
            made.append(new)
        self._kept.append(torch.stack(made))
        return F.linear(model.norm_f(x_BLD), model.head_weight)


def _attend(
    attention: Attention, x_BLD: Tensor, past: Tensor | None, mask_LM: Tensor
) -> tuple[Tensor, Tensor]:
    """Attention of new positions to earlier ones and themselves, and the new keys and values."""
    query, key, value = (
        rearrange(linear(x_BLD), "b l (k e) -> b k l e", k=attention.num_heads)
        for linear in (attention.query, attention.key, attention.value)
    )
    new = torch.stack([key, value])
    keys, values = new if past is None else torch.cat([past, new], -2)
    seen = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask_LM)
    return attention.proj(rearrange(seen, "b k l e -> b l (k e)")), new


def filtered_logits(logits_BV: Tensor, sampling: SamplingConfig) -> Tensor:
    """The logits of one position with those that top-k and top-p drop at -inf."""
    top_k = min(sampling.top_k, logits_BV.shape[1])
    least_B1 = logits_BV.topk(top_k).values[:, -1:]
    kept_BV = logits_BV.masked_fill(logits_BV < least_B1, -torch.inf)
    ordered, order = kept_BV.sort(descending=True)
    is_past = ordered.softmax(-1).cumsum(-1) > sampling.top_p
    # The token that crosses top_p is kept.
    dropped = torch.cat([torch.zeros_like(is_past[:, :1]), is_past[:, :-1]], 1)
    return kept_BV.masked_fill(dropped.scatter(1, order, dropped), -torch.inf)
