"""Attention of all heads over many clips: shares of weight by kind of key, and vertical stripes.

A stripe is a key with high weight from most later queries (the paper's figure 14). Shapes: L
positions, Q queries, P parts. Queries are those that predict tokens of the second latent frame and
later ones, so that all of them have an earlier frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nbp_core.attention_maps.view import AttentionView, look_into
from nbp_core.blocks.sequences import SequenceLayout, sequence_layout
from nbp_core.config.shapes import NO_TOKEN, Size3, format_block_shape, parse_block_shape
from nbp_core.experiments.experiment import Bench, Rows

STUDY_SHAPES: tuple[Size3, ...] = ((1, 1, 16), (1, 1, 1))
PARTS: Final = (
    "condition",
    "BOV",
    "middle tokens",
    "same place, earlier frames",
    "own block",
    "block before",
    "rest of the frame",
    "other tokens",
)
"""Kinds of key. The first that fits counts, so the shares add up to 1. 'Same place' and 'the frame'
are those of the token that the query predicts."""
STRIPE_TIMES = 5.0
"""In a stripe, a query's weight is at least this many times an even share ..."""
STRIPE_QUERIES = 0.5
"""... for at least this share of the queries in later blocks that see the key ..."""
STRIPE_LENGTH = 256
"""... of which there are at least this many (those of one latent frame)."""


@dataclass(frozen=True)
class Shares:
    """Attention shares of one head: in one clip, or means over many."""

    parts_P: NDArray[np.float64]
    stripes: float
    """Number of keys that are stripes, without conditions and BOV."""
    stripe_weight: float
    """Share of all weight on them."""


class Study:
    """The kind of each key for each query of a layout, computed once for all clips."""

    def __init__(self, layout: SequenceLayout) -> None:
        _, h, w = layout.blocks.grid
        target_L = layout.target_place_L
        self.queries_Q = torch.nonzero(target_L >= h * w).flatten()
        self.seen_QL = layout.mask_LL[self.queries_Q]
        self.num_seen_Q = self.seen_QL.sum(1)
        self.parts_QL = self._parts(layout)
        segment_L = layout.segment_L
        is_later_QL = segment_L[self.queries_Q][:, None] > segment_L
        is_token_L = torch.arange(layout.length) > layout.prefix_len
        self.later_QL = is_later_QL & is_token_L
        length = min(STRIPE_LENGTH, h * w)
        self.may_be_stripe_L = self.later_QL.sum(0) >= length

    def _parts(self, layout: SequenceLayout) -> Tensor:
        """(Q, L) index into PARTS; -1 for masked keys."""
        _, h, w = layout.blocks.grid
        queries = self.queries_Q
        target_Q1 = layout.target_place_L[queries][:, None]
        segment_L, place_L = layout.segment_L, layout.place_L
        behind_QL = segment_L[queries][:, None] - segment_L
        is_token_L = layout.source_L != NO_TOKEN
        positions = torch.arange(layout.length)
        is_first = positions == layout.prefix_len
        frame_L = place_L.div(h * w, rounding_mode="floor")
        frame_Q1 = target_Q1 // (h * w)
        fits = (
            (positions < layout.prefix_len).expand_as(behind_QL),
            (is_first & (layout.kind != "plain")).expand_as(behind_QL),
            (layout.special_L > 0).expand_as(behind_QL),
            is_token_L & (place_L % (h * w) == target_Q1 % (h * w)) & (frame_L < frame_Q1),
            is_token_L & (behind_QL == 0),
            is_token_L & (behind_QL == 1),
            is_token_L & (frame_L == frame_Q1),
            is_token_L.expand_as(behind_QL),
        )
        # The first that fits: later ones are written first.
        parts = torch.full(behind_QL.shape, -1, dtype=torch.int8)
        for index in reversed(range(len(PARTS))):
            parts[fits[index]] = index
        return parts.masked_fill(~self.seen_QL, -1)

    def even(self) -> NDArray[np.float64]:
        """(P,) the shares if every query attended to all visible keys equally."""
        return self._sums(self.seen_QL / self.num_seen_Q[:, None])

    def of(self, weights_QL: Tensor) -> Shares:
        """The shares of one head's weights, rows of which add up to 1."""
        is_high = (weights_QL * self.num_seen_Q[:, None] >= STRIPE_TIMES) & self.later_QL
        share_L = is_high.sum(0) / self.later_QL.sum(0).clamp(min=1)
        is_stripe = (share_L >= STRIPE_QUERIES) & self.may_be_stripe_L
        on_them = weights_QL[:, is_stripe].sum() / len(weights_QL)
        return Shares(self._sums(weights_QL), float(is_stripe.sum()), float(on_them))

    def _sums(self, weights_QL: Tensor) -> NDArray[np.float64]:
        sums = [weights_QL[self.parts_QL == part].sum() for part in range(len(PARTS))]
        return (torch.stack(sums) / len(weights_QL)).double().numpy()


def study_clip(view: AttentionView, study: Study) -> list[Shares]:
    """The shares of every head in one clip, layer by layer."""
    return [
        study.of(torch.from_numpy(view.map(layer, head))[study.queries_Q])
        for layer in range(view.num_layers)
        for head in range(view.num_heads)
    ]


def attention(bench: Bench, block: str) -> Rows:
    """One row per head, and one for uniform attention (layer 0): mean shares over real clips."""
    pipeline = bench.pipeline
    shape = parse_block_shape(block)
    assert bench.real.tokens_Nthw is not None
    layout = sequence_layout(pipeline.transformer.config, shape, bench.real.tokens_Nthw.shape[1])
    study = Study(layout)
    count = min(bench.count, len(bench.real))
    found = []
    actions = pipeline.conditions.fitting(bench.real.actions[:count])
    for tokens_thw, action in zip(bench.real.tokens_Nthw[:count], actions, strict=True):
        tokens = torch.from_numpy(tokens_thw[None]).to(pipeline.device)
        ids, _ = pipeline.conditions.ids(action, 1.0)
        found.append(study_clip(look_into(pipeline.transformer, layout, tokens, ids), study))
    common = {"model": pipeline.name, "block": format_block_shape(shape), "clips": count}
    num_heads = pipeline.transformer.config.num_heads
    rows: Rows = [
        common
        | {"layer": index // num_heads + 1, "head": index % num_heads + 1}
        | _row([clip[index] for clip in found])
        for index in range(len(found[0]))
    ]
    even = dict(zip(PARTS, study.even().tolist(), strict=True))
    return [*rows, common | {"layer": 0, "head": 0} | even]


def _row(clips: list[Shares]) -> dict[str, float]:
    """Means over clips, and for the own block also the deviation between clips."""
    parts_NP = np.stack([clip.parts_P for clip in clips])
    own = parts_NP[:, PARTS.index("own block")]
    return {
        **dict(zip(PARTS, parts_NP.mean(0).tolist(), strict=True)),
        "own block, deviation": float(own.std()),
        "stripes": float(np.mean([clip.stripes for clip in clips])),
        "weight on stripes": float(np.mean([clip.stripe_weight for clip in clips])),
    }
