"""Measures what a weight format costs in quality: logits and token loss beside float32.

Input: a model folder and tokens of real clips. Output: figures. Shapes: B clips, L positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.shapes import NO_TOKEN
from nbp_core.packed.formats import WeightFormat
from nbp_core.packed.model import pack
from nbp_core.transformer.model import BlockTransformer


@dataclass(frozen=True)
class FormatLoss:
    """Figures of one masked forward pass over whole clips, in the model's default block shape."""

    weight_format: str
    clips: int
    plain_loss: float
    """Cross-entropy per token in nats, with the stored weights in float32."""
    loss: float
    logit_error: float
    """Standard deviation of the logits' difference, divided by that of the float32 logits."""
    same_best: float
    """Share of positions whose most likely token is the same."""


@torch.inference_mode()
def format_loss(folder: Path, tokens_Bthw: Tensor, weights: WeightFormat) -> FormatLoss:
    """Compares a model in a weight format with the same model in float32, without a condition."""
    plain = BlockTransformer.from_pretrained(folder)
    packed = pack(BlockTransformer.from_pretrained(folder), weights)
    config, layout = plain.config, sequence_layout(plain.config)
    # The last condition id of an elastic model means "no condition".
    condition = config.first_condition_id + config.num_conditions - 1
    conditions = torch.full((len(tokens_Bthw), config.prefix_len), condition)
    ids_BL = layout.input_ids(tokens_Bthw, conditions)
    targets = layout.targets(tokens_Bthw)
    predicts_L = targets[0] != NO_TOKEN
    before, after = (
        model(ids_BL)[:, predicts_L, config.first_video_id :].flatten(0, 1).float()
        for model in (plain, packed)
    )
    known = targets[:, predicts_L].flatten()
    return FormatLoss(
        weight_format=weights,
        clips=len(tokens_Bthw),
        plain_loss=F.cross_entropy(before, known).item(),
        loss=F.cross_entropy(after, known).item(),
        logit_error=((after - before).std() / before.std()).item(),
        same_best=(after.argmax(-1) == before.argmax(-1)).float().mean().item(),
    )
