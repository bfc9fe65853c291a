"""BlockTransformer: token ids, and optionally a KV cache -> logits. It neither samples nor trains.

Shapes: B batch, L sequence, D width, V vocabulary. Source: the paper's generator (pre-LayerNorm
GPT, exact GELU, learned absolute positions, untied head without bias). The elastic inputs are our
own.
"""

from __future__ import annotations

import math
from functools import cache, lru_cache
from pathlib import Path
from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nbp_core.blocks.sequences import SequenceLayout, sequence_layout
from nbp_core.checkpoint import load_model, without_weights
from nbp_core.config.models import TransformerConfig
from nbp_core.transformer.attention import KVCache, Mask, Record
from nbp_core.transformer.layer import Layer, norm_of
from nbp_core.transformer.positions import (
    GridEmbedding,
    PositionInputs,
    rotary_angles,
    rotation_of,
    targets_of,
)


class BlockTransformer(nn.Module):
    """A decoder-only transformer. Blocks appear only in its attention mask."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.tok_emb = nn.Embedding(config.vocab_size, config.width)
        if config.layout == "elastic":
            self.grid_emb = GridEmbedding(config.grid, config.width)
        else:
            self.pos_emb = nn.Parameter(torch.empty(1, config.max_len, config.width))
            nn.init.zeros_(self.pos_emb)
        self.layers = nn.ModuleList([Layer(config) for _ in range(config.num_layers)])
        self.norm_f = norm_of(config)
        self.dropout = nn.Dropout(config.dropout)
        if not config.tied_head:
            self.head = nn.Linear(config.width, config.vocab_size, bias=False)
        self.apply(self._init_weights)
        for layer in self.layers:
            cast(Layer, layer).scale_down(1 / math.sqrt(2 * config.num_layers))
        if config.frame_conditions:
            self.frame_emb = nn.Embedding(config.num_conditions, config.width)
            nn.init.zeros_(self.frame_emb.weight)

    @staticmethod
    def _init_weights(module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    @classmethod
    def from_pretrained(
        cls,
        folder: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Self:
        """Loads a model folder. Raises CheckpointError (a ValueError) with one sentence."""
        return load_model(Path(folder), TransformerConfig, cls, device=device, dtype=dtype)

    @property
    def head_weight(self) -> Tensor:
        """Rows of the head, (V, D)."""
        return self.tok_emb.weight if self.config.tied_head else self.head.weight

    def forward(
        self, ids_BL: Tensor, mask: Tensor | None = None, layout: SequenceLayout | None = None
    ) -> Tensor:
        """One masked forward pass: ids_BL -> logits_BLV over the whole vocabulary.

        mask: bool (L, L), True = may attend; default: the layout's mask. The layout gives the place
        of each position; default: a whole clip in the config's block shape. Raises ValueError for
        more ids than the layout has, and for a mask of another size.
        """
        layout = layout or sequence_layout(self.config)
        if ids_BL.ndim != 2 or not ids_BL.numel() or ids_BL.shape[1] > layout.length:
            raise ValueError(
                f"ids must be of shape (B, L), L from 1 to {layout.length:,}, not "
                f"{tuple(ids_BL.shape)}"
            )
        if mask is not None and mask.shape != (ids_BL.shape[1],) * 2:
            raise ValueError(
                f"the mask of {ids_BL.shape[1]:,} ids must be of shape (L, L), not "
                f"{tuple(mask.shape)}"
            )
        chosen = None if mask is None else Mask.of(mask.to(ids_BL.device))
        features = self.features(ids_BL, layout, chosen)
        return self._logits(features)

    def _logits(self, features: Tensor) -> Tensor:
        return F.linear(features, self.head_weight)

    def features(
        self,
        ids_BL: Tensor,
        layout: SequenceLayout,
        mask: Mask | None = None,
        start: int = 0,
        cache: KVCache | None = None,
        record: Record | None = None,
        inputs: PositionInputs | None = None,
        conditions_Bt: Tensor | None = None,
    ) -> Tensor:
        """Final hidden states (B, L, D) of the positions from `start` on.

        A cache supplies keys and values before `start` and receives the new ones. A record receives
        the queries and keys of all layers. `inputs` are the layout's position_inputs, which a
        generation computes once. conditions_Bt: condition ids of the latent frames; default: all
        frames have the condition of the prefix. The cache stores them, so only the first call of a
        generation reads them.
        """
        stop = start + ids_BL.shape[1]
        if mask is None:
            mask = layout_mask(layout, start, stop, ids_BL.device)
        here = (inputs or self.position_inputs(layout)).at(slice(start, stop))
        known_Bt = self._conditions(ids_BL, conditions_Bt, start, cache)
        condition_BL = layout.of_targets(known_Bt, slice(start, stop))
        out = self.features_here(ids_BL, here, condition_BL, mask, cache, record)
        if cache is not None:
            cache.length = stop
        return out

    def features_here(
        self,
        ids_BL: Tensor,
        here: PositionInputs,
        condition_BL: Tensor | None,
        mask: Mask | None,
        cache: KVCache | None,
        record: Record | None = None,
    ) -> Tensor:
        """As `features`, for given position inputs and mask. The cache's length does not change.

        condition_BL: condition index of each position, (B, 1) if all share one.
        """
        x = self.embed(ids_BL, here.added_LD, condition_BL)
        at = self.by_layer(here, condition_BL)
        for i, (layer, inputs) in enumerate(zip(self.layers, at, strict=True)):
            x = layer(x, mask, inputs, condition_BL, cache, i, record)
        return cast(Tensor, self.norm_f(x))

    def embed(self, ids_BL: Tensor, added_LD: Tensor, condition_BL: Tensor | None) -> Tensor:
        """The input of the first layer, (B, L, D)."""
        x_BLD = self.tok_emb(ids_BL).to(added_LD.dtype) + added_LD
        if self.config.frame_conditions:
            x_BLD = x_BLD + self.frame_emb(condition_BL)
        return cast(Tensor, self.dropout(x_BLD))

    def position_inputs(
        self, layout: SequenceLayout, shift: int = 0, here: slice = slice(None)
    ) -> PositionInputs:
        """The position inputs of a layout, or of its positions `here`.

        shift: number of latent frames missing between the first frame and the others.
        """
        if self.config.layout != "elastic":
            return PositionInputs(self.pos_emb[0, : layout.length][here], None)
        device = self.tok_emb.weight.device
        place, target = layout.place_L[here].to(device), layout.target_place_L[here].to(device)
        added: Tensor = self.grid_emb(place, target, layout.blocks.block_shape)
        if not self.config.rope:
            return PositionInputs(added, None)
        grid, head_width = self.config.grid, self.config.width // self.config.num_heads
        target_LE, place_LE = (rotary_angles(x, grid, head_width, shift) for x in (target, place))
        rotation = rotation_of(target_LE, place_LE, added.dtype)
        targets = targets_of(target_LE, target, grid) if self.config.aimed else None
        return PositionInputs(added, rotation, targets)

    def by_layer(self, here: PositionInputs, condition_BL: Tensor | None) -> list[PositionInputs]:
        """The position inputs of each layer."""
        return [here] * len(self.layers)

    def _conditions(
        self, ids_BL: Tensor, conditions_Bt: Tensor | None, start: int, cache: KVCache | None
    ) -> Tensor | None:
        """Condition index of each latent frame, (B, 1) if all frames share that of the prefix.

        None if the model's steps do not depend on it. The cache stores the result.
        """
        if not (self.config.aimed or self.config.frame_conditions):
            return None
        if start > 0:
            assert cache is not None
            return cache.condition_Bt
        known_Bt = self.condition_index(ids_BL[:, :1] if conditions_Bt is None else conditions_Bt)
        if cache is not None:
            cache.condition_Bt = known_Bt
        return known_Bt

    def condition_index(self, ids_Bt: Tensor) -> Tensor:
        """Condition ids -> condition indices. Ids of other tokens become "no condition"."""
        count = self.config.num_conditions
        index_Bt = ids_Bt - self.config.first_condition_id
        return index_Bt.where((index_Bt >= 0) & (index_Bt < count), count - 1)

    def video_logits(self, features: Tensor) -> Tensor:
        """Features (..., D) -> logits (..., codebook) over video ids, the only ones to sample."""
        return F.linear(features, self.head_weight[self.config.first_video_id :])

    def new_cache(self, batch: int, capacity: int) -> KVCache:
        """An empty cache for sequences of up to `capacity` positions."""
        config, like = self.config, cast(Tensor, self.norm_f.weight)
        heads = config.num_heads
        shape = (config.num_layers, batch, heads, capacity, config.width // heads)
        return KVCache(like.new_empty(shape), like.new_empty(shape))


@lru_cache(maxsize=32)
def layout_mask(layout: SequenceLayout, start: int, stop: int, device: torch.device) -> Mask | None:
    """The layout's mask for positions [start, stop); None if they attend to all before `stop`."""
    if layout.sees_all(start, stop):
        return None
    with torch.inference_mode(False):  # training may use it too
        return Mask.of(layout.mask_LL[start:stop, :stop].to(device).clone())


@cache
def num_parameters(config: TransformerConfig) -> int:
    """The number of parameters of a transformer, counted without allocating them."""
    with without_weights():
        return sum(p.numel() for p in BlockTransformer(config).parameters())
