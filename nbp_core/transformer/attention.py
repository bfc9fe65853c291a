"""Attention and its KV cache. This module does not know blocks: masks and positions are arguments.

Shapes: B batch, L queries, M keys, K heads, D width, E = D / K head width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbp_core.transformer.training_attention import Spans, is_bfloat16_training, training_attention

QUERY_CHUNK = 256

Positions = slice | Tensor
"""A contiguous range of a sequence, or indices in device memory."""


@dataclass
class KVCache:
    """Preallocated keys and values of all layers: (layers, B, K, capacity, E), filled in order."""

    keys: Tensor
    values: Tensor
    length: int = 0
    condition_Bt: Tensor | None = None
    """Condition index of each latent frame, (B, 1) if all frames share one. None for models whose
    decode steps do not depend on it."""

    @property
    def num_bytes(self) -> int:
        """Bytes of the filled part."""
        per_position = self.keys[..., 0, :].numel() * self.keys.element_size()
        return 2 * per_position * self.length

    def append(self, layer: int, key_BKLE: Tensor, value_BKLE: Tensor) -> tuple[Tensor, Tensor]:
        """Writes new positions of one layer. Returns views of all filled keys and values."""
        stop = self.length + key_BKLE.shape[2]
        self.keys[layer, :, :, self.length : stop] = key_BKLE
        self.values[layer, :, :, self.length : stop] = value_BKLE
        return self.keys[layer, :, :, :stop], self.values[layer, :, :, :stop]


@dataclass
class PlacedCache(KVCache):
    """A KVCache whose write positions are a tensor on the device, as a CUDA graph needs them.

    New positions are written to `positions_L`. `append` returns the whole buffer, so a mask must
    hide the unfilled part.
    """

    positions_L: Tensor = field(kw_only=True)

    def append(self, layer: int, key_BKLE: Tensor, value_BKLE: Tensor) -> tuple[Tensor, Tensor]:
        """See KVCache.append. Returns views of the whole buffer."""
        keys, values = self.keys[layer], self.values[layer]
        keys.index_copy_(2, self.positions_L, key_BKLE)
        values.index_copy_(2, self.positions_L, value_BKLE)
        return keys, values


@dataclass(frozen=True)
class Record:
    """Queries and keys of every layer, each (B, K, L, E), from which attention maps are made."""

    queries: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)


@dataclass(frozen=True)
class Mask:
    """An attention mask, with the number of keys that each chunk of queries can reach.

    Attention skips keys beyond the last visible key of a chunk. This halves a causal mask's cost.
    """

    mask_LM: Tensor
    spans: Spans = field(default_factory=list)
    reach_L: Tensor | None = None
    """The number of keys per query, if each query attends to the first keys only and to no fewer
    than the query before it; else None."""

    @classmethod
    def of(cls, mask_LM: Tensor) -> Mask:
        reach_L = (mask_LM * torch.arange(1, mask_LM.shape[1] + 1, device=mask_LM.device)).amax(1)
        is_first = (mask_LM.sum(1) == reach_L).all() and (reach_L.diff() >= 0).all()
        starts = range(0, mask_LM.shape[0], QUERY_CHUNK)
        spans = [
            (a, min(a + QUERY_CHUNK, mask_LM.shape[0]), int(reach_L[a : a + QUERY_CHUNK].max()))
            for a in starts
        ]
        return cls(mask_LM, spans, reach_L if is_first else None)


def masked_attention(query: Tensor, key: Tensor, value: Tensor, mask: Mask | None) -> Tensor:
    """softmax(q k^T / sqrt(E)) v over the keys that the mask allows; all (B, K, L or M, E)."""
    if mask is None:
        return F.scaled_dot_product_attention(query, key, value)
    if query.is_cuda:
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask.mask_LM)
    output: Tensor = _attention_on_cpu(query, key, value, mask)
    return output


# torch.compile would compile it again for every mask.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _attention_on_cpu(query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
    """masked_attention, one chunk of queries at a time, over the keys that the chunk can reach."""
    if is_bfloat16_training(query):
        return training_attention(query, key, value, mask.mask_LM, mask.spans)
    if len(mask.spans) == 1:
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


@dataclass(frozen=True)
class Rotation:
    """Rotary tables: cosines and sines of the queries, then of the keys, each (2, B, K, L, E).

    B and K may be 1, for tables that all sequences and heads share. Channels i and i + E/2 are a
    pair; the first half of the sines is negated.
    """

    cos: Tensor
    sin: Tensor

    def at(self, positions: Positions) -> Rotation:
        """The tables of some positions."""
        return Rotation(self.cos[..., positions, :], self.sin[..., positions, :])

    def of(self, x_2BKLE: Tensor) -> Tensor:
        """Applies the rotary tables to queries and keys."""
        swapped = x_2BKLE.roll(x_2BKLE.shape[-1] // 2, -1)
        return torch.addcmul(x_2BKLE * self.cos, swapped, self.sin)


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
        self.joint: nn.Module | None = None

    def join(self) -> None:
        """Joins the query, key and value layers into one for decoding; the three are deleted."""
        three = (self.query, self.key, self.value)
        joint = nn.Linear(self.query.in_features, 3 * self.query.out_features, device="meta")
        joint.weight = nn.Parameter(torch.cat([x.weight for x in three]), requires_grad=False)
        joint.bias = nn.Parameter(torch.cat([x.bias for x in three]), requires_grad=False)
        self.joint = joint
        del self.query, self.key, self.value

    def _products(self, x_BLD: Tensor) -> Tensor:
        """Queries, keys and values: (3, B, K, L, E)."""
        if self.joint is not None:
            products: Tensor = self.joint(x_BLD)
            return products.view(*x_BLD.shape[:2], 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        three = torch.stack([self.query(x_BLD), self.key(x_BLD), self.value(x_BLD)])
        return three.view(*three.shape[:3], self.num_heads, -1).transpose(2, 3)

    def forward(
        self,
        x_BLD: Tensor,
        mask: Mask | None,
        rotation: Rotation | None,
        cache: KVCache | None,
        layer: int,
        record: Record | None = None,
    ) -> Tensor:
        """Attention over x_BLD. A cache receives the new keys and values and supplies earlier ones.

        A record receives queries and keys after rotation.
        """
        products = self._products(x_BLD)
        turned = products[:2] if rotation is None else rotation.of(products[:2])
        (query, key), value = turned, products[2]
        if cache is not None:
            key, value = cache.append(layer, key, value)
        if record is not None:
            record.queries.append(query)
            record.keys.append(key)
        out = masked_attention(query, key, value, mask).transpose(1, 2).flatten(2)
        projected: Tensor = self.dropout(self.proj(out))
        return projected
