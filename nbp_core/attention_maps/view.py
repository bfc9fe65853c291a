"""Attention maps of a clip: one masked forward pass, then any head's map or row on request.

Shapes: L positions, K heads, E head width, t h w grid. A map is float32 (L, L); each row is a query
and sums to 1. The forward pass keeps queries and keys only; maps are computed on request.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nbp_core.attention_maps.pictures import Head, Levels, Positions, Weights, levels
from nbp_core.blocks.sequences import SequenceLayout
from nbp_core.config.shapes import NO_TOKEN, Size3
from nbp_core.transformer.attention import Record
from nbp_core.transformer.model import BlockTransformer

THUMBNAIL_SIDE = 64


@dataclass(frozen=True)
class Look:
    """The attention of one query: to the clip's tokens on the grid, and to the rest in sums."""

    weights_thw: Weights
    is_seen_thw: NDArray[np.bool_]
    """True for tokens that the query may attend to."""
    conditions: float
    bov: float
    middle: float
    """Sum of the weights on middle tokens, which stand in for tokens of the first block."""


class AttentionView:
    """The attention of one model over one clip, for one block shape."""

    def __init__(self, layout: SequenceLayout, record: Record) -> None:
        self.layout = layout
        self._record = record
        self.num_layers = len(record.queries)
        self.num_heads = record.queries[0].shape[1]
        self.length = layout.length
        self.grid = layout.blocks.grid
        self.block_shape: Size3 = layout.blocks.block_shape

    def map(self, layer: int, head: Head) -> Weights:
        """Weights (L, L) of a head. Rows sum to 1, except for head "max".

        Layers and heads count from 0; head "mean" or "max" is over all heads of the layer. Raises
        ValueError for a layer or a head that does not exist.
        """
        return self._weights(layer, head, slice(0, self.length))

    def row(self, layer: int, head: Head, query: int) -> Weights:
        """Weights (L,) of one query, without computing the whole map. Raises ValueError as map."""
        self._check("position", query, self.length)
        row: Weights = self._weights(layer, head, slice(query, query + 1))[0]
        return row

    def look(self, layer: int, head: Head, query: int) -> Look:
        """The row of one query, with the token weights placed on the grid."""
        row_L = self.row(layer, head, query)
        is_token = self.is_token_L
        places = self.places_L[is_token]
        weights = np.zeros(math.prod(self.grid), np.float32)
        weights[places] = row_L[is_token]
        is_seen = np.zeros(math.prod(self.grid), np.bool_)
        is_seen[places] = self.layout.mask_LL[query].numpy()[is_token]
        prefix = self.layout.prefix_len
        return Look(
            weights_thw=weights.reshape(self.grid),
            is_seen_thw=is_seen.reshape(self.grid),
            conditions=float(row_L[:prefix].sum()),
            bov=0.0 if self.layout.kind == "plain" else float(row_L[prefix]),
            middle=float(row_L[self.layout.special_L.numpy() > 0].sum()),
        )

    def thumbnails(self, side: int = THUMBNAIL_SIDE) -> Levels:
        """Max-pooled maps of all heads in log levels: (layers, heads, side, side)."""
        pooled = [
            F.adaptive_max_pool2d(self._head(layer, head, slice(0, self.length))[None, None], side)
            for layer in range(self.num_layers)
            for head in range(self.num_heads)
        ]
        shape = (self.num_layers, self.num_heads, side, side)
        return levels(torch.cat(pooled).reshape(shape).cpu().numpy())

    @cached_property
    def places_L(self) -> NDArray[np.int64]:
        """Place in the grid of each position; NO_TOKEN for conditions and BOV."""
        places: NDArray[np.int64] = self.layout.place_L.numpy()
        return places

    @cached_property
    def is_token_L(self) -> NDArray[np.bool_]:
        """True for positions that hold a token of the clip, not a prefix or middle token."""
        is_token: NDArray[np.bool_] = self.layout.source_L.numpy() != NO_TOKEN
        return is_token

    @property
    def num_prefix(self) -> int:
        """The number of positions before the clip's first token: conditions and BOV."""
        return self.layout.prefix_len + (self.layout.kind != "plain")

    @cached_property
    def targets_L(self) -> NDArray[np.int64]:
        """Place in the grid of the token that each position predicts; NO_TOKEN for conditions."""
        targets: NDArray[np.int64] = self.layout.target_place_L.numpy()
        return targets

    @cached_property
    def walls(self) -> list[int]:
        """First position of each segment, then L. A segment attends to all positions before its
        end."""
        segment_L = self.layout.segment_L
        starts = (segment_L[1:] != segment_L[:-1]).nonzero().flatten() + 1
        return [0, *starts.tolist(), self.length]

    def query_of(self, place: int) -> int:
        """The position that predicts the token at `place`, that is, its row in the map.

        Raises ValueError for tokens that no position predicts: the first block of a plain model.
        """
        self._check("place", place, math.prod(self.grid))
        queries = np.flatnonzero(self.targets_L == place)
        if not len(queries):
            raise ValueError(
                f"this model is given the token {self.place_words(place)} and does not predict it"
            )
        return int(queries[0])

    @cached_property
    def labels(self) -> list[str]:
        """The content of each position in words; t, h and w count from 1."""
        conditions = [f"condition {i + 1}" for i in range(self.layout.prefix_len)]
        bov = [] if self.layout.kind == "plain" else ["BOV"]
        special = self.layout.special_L.tolist()
        rest = range(len(conditions) + len(bov), self.length)
        return conditions + bov + [self._label(special[i], int(self.places_L[i])) for i in rest]

    def positions(self) -> Positions:
        """The content of each position as arrays, for an NPZ file."""
        return {
            "label_L": np.array(self.labels),
            "place_L3": self._grid_places(self.places_L),
            "target_L3": self._grid_places(self.targets_L),
            "walls": np.array(self.walls),
        }

    def _grid_places(self, places_L: NDArray[np.int64]) -> NDArray[np.int64]:
        places_L3 = np.stack(np.unravel_index(places_L.clip(min=0), self.grid), axis=1)
        return np.where(places_L[:, None] == NO_TOKEN, NO_TOKEN, places_L3)

    def _label(self, special: int, place: int) -> str:
        words = self.place_words(place)
        return f"middle token {special} at {words}" if special else f"token {words}"

    def place_words(self, place: int) -> str:
        """t, h and w of a place, counted from 1, such as '(1, 4, 16)'."""
        t, h, w = np.unravel_index(place, self.grid)
        return f"({t + 1}, {h + 1}, {w + 1})"

    def _weights(self, layer: int, head: Head, queries: slice) -> Weights:
        self._check("layer", layer, self.num_layers)
        if head != "mean" and head != "max":
            self._check("head", head, self.num_heads)
            chosen = self._head(layer, head, queries)
        else:
            # One head at a time: all maps of a layer may not fit into memory.
            chosen = self._head(layer, 0, queries)
            for other in range(1, self.num_heads):
                weights = self._head(layer, other, queries)
                chosen = torch.maximum(chosen, weights) if head == "max" else chosen + weights
            if head == "mean":
                chosen = chosen / self.num_heads
        result: Weights = chosen.cpu().numpy()
        return result

    @torch.inference_mode()
    def _head(self, layer: int, head: int, queries: slice) -> Tensor:
        """Softmax weights of some queries over all keys; exactly 0 where the mask is False."""
        query = self._record.queries[layer][0, head, queries].float()
        key = self._record.keys[layer][0, head].float()
        scores = query @ key.T / math.sqrt(query.shape[-1])
        hidden = ~self.layout.mask_LL[queries].to(scores.device)
        return scores.masked_fill_(hidden, -torch.inf).softmax(dim=-1)

    @staticmethod
    def _check(what: str, index: object, count: int) -> None:
        if not isinstance(index, Integral):
            raise ValueError(f"a {what} must be a whole number, not {index!r:.40}")
        if not 0 <= int(index) < count:
            raise ValueError(
                f"there is no {what} {int(index) + 1}: there are {count}, counted from 1"
            )


@torch.inference_mode()
def look_into(
    model: BlockTransformer,
    layout: SequenceLayout,
    tokens_Bthw: Tensor,
    conditions_BP: Tensor | None,
) -> AttentionView:
    """Runs one masked forward pass over the tokens of one clip (B = 1) with the layout's grid."""
    conditions = None if conditions_BP is None else conditions_BP.to(tokens_Bthw.device)
    record = Record()
    model.features(layout.input_ids(tokens_Bthw, conditions), layout, record=record)
    return AttentionView(layout, record)
