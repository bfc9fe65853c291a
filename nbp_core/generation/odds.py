"""How likely the tokens of a finished clip were: one masked forward pass over all of them.

Shapes: t h w grid, K likeliest codes, L positions, V codebook.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nbp_core.blocks.sequences import SequenceLayout
from nbp_core.config.shapes import NO_TOKEN
from nbp_core.sampling.filters import guide
from nbp_core.transformer.model import BlockTransformer

NUM_LIKELIEST = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenOdds:
    """The model's probabilities at a temperature, with guidance, before top-k and top-p."""

    probability_thw: NDArray[np.float32]
    """Probability of each token of the clip; NaN where the model predicts none."""
    likeliest_thwK: NDArray[np.int64]
    """Codes, the likeliest first; NO_TOKEN where the model predicts none."""
    likeliest_probability_thwK: NDArray[np.float32]


@torch.inference_mode()
def token_odds(
    model: BlockTransformer,
    layout: SequenceLayout,
    tokens_1thw: Tensor,
    conditions_1P: Tensor | None,
    null_conditions_1P: Tensor | None,
    temperature: float,
    guidance_scale: float,
) -> TokenOdds:
    """The probabilities of a clip's tokens, each predicted from what a sampler knows at its step.

    tokens_1thw: int64, one clip. null_conditions_1P: the 'no condition' ids for guidance, or None.
    At temperature 0, where sampling is argmax, the probabilities are those at temperature 1.
    """
    is_target_L = layout.target_place_L != NO_TOKEN

    def logits(ids_1P: Tensor | None) -> Tensor:
        features = model.features(layout.input_ids(tokens_1thw, ids_1P), layout)[0]
        return model.video_logits(features[is_target_L.to(features.device)]).float()

    logits_MV = logits(conditions_1P)
    if null_conditions_1P is not None:
        logits_MV = guide(logits_MV, logits(null_conditions_1P), guidance_scale)
    probs_MV = (logits_MV / (temperature or 1.0)).softmax(-1).cpu()
    places_M = layout.target_place_L[is_target_L]
    own_M1 = tokens_1thw.cpu().flatten()[places_M, None]
    top = probs_MV.topk(min(NUM_LIKELIEST, probs_MV.shape[1]), dim=-1)
    grid = layout.blocks.grid
    return TokenOdds(
        probability_thw=_placed(probs_MV.gather(1, own_M1), places_M, math.nan, grid)[..., 0],
        likeliest_thwK=_placed(top.indices, places_M, NO_TOKEN, grid),
        likeliest_probability_thwK=_placed(top.values, places_M, math.nan, grid),
    )


def _placed(
    values_MK: Tensor, places_M: Tensor, empty: float, grid: tuple[int, int, int]
) -> NDArray[Any]:
    """Values of predicted tokens on the grid (t, h, w, K)."""
    size = math.prod(grid), values_MK.shape[1]
    placed = torch.full(size, empty, dtype=values_MK.dtype)
    placed[places_M] = values_MK
    return placed.view(*grid, -1).numpy()
