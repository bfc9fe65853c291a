"""Chooses a model's decoder on its device: CUDA graphs, lists of compiled jobs, or plain calls."""

from __future__ import annotations

from nbp_core.packed.model import PackedTransformer
from nbp_core.sampling.cuda_graph import GraphDecoder
from nbp_core.sampling.decoder import Decoder
from nbp_core.transformer.model import BlockTransformer


def decoder_of(model: BlockTransformer) -> Decoder:
    """The fastest decoder for the model's form (plain or packed) and device."""
    if model.tok_emb.weight.device.type == "cuda":
        return GraphDecoder(model)
    if isinstance(model, PackedTransformer) and model.steps is not None:
        # Imported here because it loads a compiler.
        from nbp_core.sampling.compiled_steps import CompiledDecoder

        return CompiledDecoder(model, model.steps)
    return Decoder(model)
