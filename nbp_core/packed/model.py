"""A transformer with weights packed for decoding.

Input: a BlockTransformer. Output: a PackedTransformer with the same calls, which cannot be trained
or saved. Shapes: B batch, L positions, D width, N layers.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.checkpoint import StoredWeights, without_weights
from nbp_core.config.description import load_config
from nbp_core.config.models import TransformerConfig
from nbp_core.device import check_memory
from nbp_core.memory import give_back
from nbp_core.packed.formats import BYTES, STORED, WeightFormat, choose_format, compute_dtype
from nbp_core.packed.linear import CompiledLinear, pack_linear, pack_linears
from nbp_core.transformer.attention import KVCache, Mask, Record, Rotation
from nbp_core.transformer.layer import Layer
from nbp_core.transformer.model import BlockTransformer, num_parameters
from nbp_core.transformer.positions import Aim, PositionInputs, Targets, aimed

if TYPE_CHECKING:
    from nbp_core.packed.plan import CompiledSteps


Fill = Callable[[torch.nn.Module, str], None]
"""Loads the weights of a part of the model. The string is the prefix of the part's weight names."""


def load_packed(
    folder: str | Path, device: str = "cpu", int8: bool = False, int4: bool = False
) -> PackedTransformer:
    """Loads a model folder in the format that choose_format names.

    The files are memory-mapped and packed layer by layer, so memory peaks little above the packed
    model. Raises ValueError as choose_format does and if memory is short, and CheckpointError as
    BlockTransformer.from_pretrained does.
    """
    folder, weights = Path(folder), choose_format(device, int8, int4)
    config = load_config(folder, TransformerConfig)
    with without_weights():
        model = BlockTransformer(config)
    stored = StoredWeights.of(folder, model)
    check_memory(f"model {folder.name!r}", decoding_bytes(config, weights), device)

    def fill(part: torch.nn.Module, prefix: str) -> None:
        stored.fill(part, prefix, STORED[weights])
        part.to(device)

    return pack(model, weights, fill)


def decoding_bytes(config: TransformerConfig, weights: WeightFormat) -> int:
    """Bytes of a packed model and of one clip's KV cache. Embeddings stay as they are stored."""
    table = config.vocab_size * config.width
    matrices = num_parameters(config) - (0 if config.tied_head else table)
    cache = 2 * config.num_layers * config.width * sequence_layout(config).length
    held = matrices * BYTES[weights] + table * STORED[weights].itemsize
    return int(held + cache * compute_dtype(weights).itemsize)


@torch.no_grad()
def pack(
    model: BlockTransformer, weights: WeightFormat, fill: Fill | None = None
) -> PackedTransformer:
    """Packs a model's weights in a format. The given model cannot be used afterwards.

    `fill` supplies the weights of a model that was built without them.
    """
    fill = fill or _has_weights
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for index, layer in enumerate(model.layers):
            # One layer at a time, since two copies of all may not fit into memory.
            fill(layer, f"layers.{index}.")
            cast(Layer, layer).attention.join()
            pack_linears(layer, weights, pool)
            give_back()
    fill(model, "")
    packed = PackedTransformer(model.eval().requires_grad_(False), weights)
    give_back()
    return packed


def _has_weights(part: torch.nn.Module, prefix: str) -> None:
    """The `fill` of a model that already has its weights: nothing is to be done."""


class PackedTransformer(BlockTransformer):
    """A BlockTransformer with packed layers and head.

    Forward passes with a KV cache run as lists of compiled jobs if the kernels support the model.
    """

    def __init__(self, model: BlockTransformer, weights: WeightFormat) -> None:
        """Takes over the parts of `model`, whose layers are packed already."""
        with without_weights():
            super().__init__(model.config)
        for parts in (model._modules, model._parameters, model._buffers):
            for name, part in parts.items():
                setattr(self, name, part)
        self.weight_format = weights
        head, first = model.head_weight, self.config.first_video_id
        self.special_head = head[:first].clone()
        self.video_head = pack_linear(head[first:], None, weights)
        if not self.config.tied_head:
            del self.head, model.head
        self._aims_NCK23 = self._take_aims() if self.config.aimed else None
        # Before the cast below, because compiled steps read norms in float32.
        self.steps = self._make_steps()
        for name, parameter in self.named_parameters():
            if name != "tok_emb.weight":
                parameter.data = parameter.data.to(compute_dtype(weights))
        self.eval().requires_grad_(False)

    def _take_aims(self) -> Tensor:
        """Moves the aims (affine maps) of all layers into one tensor, so that one call computes the
        rotary tables of all layers."""
        layers = [cast(Layer, layer) for layer in self.layers]
        aims_NCK23 = torch.stack([cast(Aim, layer.aim).maps for layer in layers])
        for layer in layers:
            layer.aim = None
        return aims_NCK23

    def _make_steps(self) -> CompiledSteps | None:
        """Fused steps of the layers and the head, if the kernels support the model's size."""
        if not isinstance(self.video_head, CompiledLinear):
            return None
        # Imported here because it loads a compiler.
        from nbp_core.packed.plan import CompiledSteps, fits

        layers = [cast(Layer, layer) for layer in self.layers]
        is_fit = fits(self.config.width, self.config.num_heads)
        return CompiledSteps(layers, self.norm_f, self.video_head) if is_fit else None

    def _logits(self, features: Tensor) -> Tensor:
        special = F.linear(features, self.special_head.to(features.dtype))
        return torch.cat([special, self.video_head(features)], dim=-1)

    def video_logits(self, features: Tensor) -> Tensor:
        logits: Tensor = self.video_head(features)
        return logits

    def features_here(
        self,
        ids_BL: Tensor,
        here: PositionInputs,
        condition_BL: Tensor | None,
        mask: Mask | None,
        cache: KVCache | None,
        record: Record | None = None,
    ) -> Tensor:
        reach_L = None if mask is None else mask.reach_L
        is_ahead = (mask is None or reach_L is not None) and record is None
        if self.steps is None or cache is None or not is_ahead:
            return super().features_here(ids_BL, here, condition_BL, mask, cache, record)
        x = self.embed(ids_BL, here.added_LD, condition_BL)
        rotations = [inputs.rotation for inputs in self.by_layer(here, condition_BL)]
        return self.steps(x, cache, rotations, reach_L)

    def by_layer(self, here: PositionInputs, condition_BL: Tensor | None) -> list[PositionInputs]:
        """Position inputs of each layer, computed for all at once, because calls take most of the
        time of small steps."""
        if self._aims_NCK23 is None or condition_BL is None:
            return super().by_layer(here, condition_BL)
        targets, rotation = cast(Targets, here.targets), cast(Rotation, here.rotation)
        rotations = aimed(self._aims_NCK23, targets, rotation, condition_BL)
        return [PositionInputs(here.added_LD, rotation) for rotation in rotations]
