"""Attention and its key/value cache. Knows nothing of blocks: masks and positions are handed in.

Shapes: B batch, L queries, M keys, K heads, D width, E = D / K head width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

QUERY_CHUNK = 256


@dataclass
class KVCache:
    """Preallocated keys and values of all layers, (layers, B, K, capacity, E), filled in order."""

    keys: Tensor
    values: Tensor
    length: int = 0

    @classmethod
    def allocate(
        cls,
        num_layers: int,
        batch: int,
        num_heads: int,
        capacity: int,
        head_width: int,
        like: Tensor,
    ) -> KVCache:
        shape = (num_layers, batch, num_heads, capacity, head_width)
        return cls(like.new_empty(shape), like.new_empty(shape))

    @property
    def num_bytes(self) -> int:
        """Memory of the filled part."""
        per_position = self.keys[..., 0, :].numel() * self.keys.element_size()
        return 2 * per_position * self.length

    def append(self, layer: int, key_BKLE: Tensor, value_BKLE: Tensor) -> tuple[Tensor, Tensor]:
        """Writes new positions of one layer; returns views of all positions so far."""
        stop = self.length + key_BKLE.shape[2]
        self.keys[layer, :, :, self.length : stop] = key_BKLE
        self.values[layer, :, :, self.length : stop] = value_BKLE
        return self.keys[layer, :, :, :stop], self.values[layer, :, :, :stop]


@dataclass(frozen=True)
class Record:
    """Queries and keys of every layer in turn, (B, K, L, E), for whoever wants to see weights."""

    queries: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Mask:
    """Which keys a query may attend to, with the extent of keys each chunk of queries can reach.

    Work beyond the last visible key of a chunk is skipped, which halves a causal mask's cost.
    """

    mask_LM: Tensor
    spans: list[tuple[int, int, int]] = field(default_factory=list)

    @classmethod
    def of(cls, mask_LM: Tensor) -> Mask:
        reach_L = (mask_LM * torch.arange(1, mask_LM.shape[1] + 1, device=mask_LM.device)).amax(1)
        starts = range(0, mask_LM.shape[0], QUERY_CHUNK)
        spans = [
            (a, min(a + QUERY_CHUNK, mask_LM.shape[0]), int(reach_L[a : a + QUERY_CHUNK].max()))
            for a in starts
        ]
        return cls(mask_LM, spans)


def masked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Mask | None) -> Tensor:
    """softmax(q k^T / sqrt(E)) v over the keys the mask allows; all of (B, K, L or M, E)."""
    if mask is None:
        return F.scaled_dot_product_attention(query, key, value)
    if query.is_cuda or len(mask.spans) == 1:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask.mask_LM)
    return torch.cat(
        [
            F.scaled_dot_product_attention(
                query[:, :, a:b], key[:, :, :m], value[:, :, :m], attn_mask=mask.mask_LM[a:b, :m]
            )
            for a, b, m in mask.spans
        ],
        dim=2,
    )


def rotate(x_BKLE: Tensor, cos_LE: Tensor, sin_LE: Tensor) -> Tensor:
    """Rotary position embedding in pairs (i, i + E/2)."""
    first, second = x_BKLE.chunk(2, dim=-1)
    return x_BKLE * cos_LE + torch.cat([-second, first], dim=-1) * sin_LE


@dataclass(frozen=True)
class Rotation:
    """Cosines and sines (L, E) of the queries' places and of the keys'."""

    query: tuple[Tensor, Tensor]
    key: tuple[Tensor, Tensor]


class Attention(nn.Module):
    """Multi-head attention with separate query, key, value and output projections."""

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.proj = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x_BLD: Tensor,
        mask: Mask | None,
        rotation: Rotation | None,
        cache: KVCache | None,
        layer: int,
        record: Record | None = None,
    ) -> Tensor:
        """With a cache, keys and values of these positions are appended and all so far are seen.

        With a record, queries and keys are left there as they are multiplied.
        """
        query, key, value = (
            rearrange(linear(x_BLD), "b l (k e) -> b k l e", k=self.num_heads)
            for linear in (self.query, self.key, self.value)
        )
        if rotation is not None:
            query, key = rotate(query, *rotation.query), rotate(key, *rotation.key)
        if cache is not None:
            key, value = cache.append(layer, key, value)
        if record is not None:
            record.queries.append(query)
            record.keys.append(key)
        out = rearrange(masked_attention(query, key, value, mask), "b k l e -> b l (k e)")
        projected: Tensor = self.dropout(self.proj(out))
        return projected
