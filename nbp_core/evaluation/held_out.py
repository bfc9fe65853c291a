"""Loss of held-out clips, latent frame by latent frame.

Shapes: N clips, B batch, t h w tokens, M predicted positions, V codebook.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.shapes import Size3
from nbp_core.transformer.conditions import Conditions
from nbp_core.transformer.model import BlockTransformer

BATCH = 4

Losses = NDArray[np.float64]


@torch.inference_mode()
def frame_losses(
    model: BlockTransformer,
    conditions: Conditions,
    tokens_Nthw: NDArray[np.integer],
    actions: Sequence[str | None],
    shape: Size3,
    keys: Sequence[Sequence[str | None]] | None = None,
) -> Losses:
    """Cross-entropy in nats per token, (N, t), of clips with their actions and blocks of a shape.

    A model without actions is given none. A token counts in its own latent frame, whichever
    position predicts it. Tokens that no position of a plain layout predicts do not count. keys: for
    each clip, the condition of every latent frame after the first (None: no condition), for a model
    with conditions per latent frame.
    """
    device = next(model.parameters()).device
    num_frames, *side = tokens_Nthw.shape[1:]
    layout = sequence_layout(model.config, shape, num_frames)
    frame_M = layout.target_place_L[layout.prefix_len :].to(device) // math.prod(side)
    known_actions = conditions.fitting(actions)
    found = []
    for start in range(0, len(tokens_Nthw), BATCH):
        rows = slice(start, start + BATCH)
        tokens = torch.from_numpy(tokens_Nthw[rows].astype(np.int64)).to(device)
        ids = [conditions.ids(action, 1.0)[0] for action in known_actions[rows]]
        known = [row.to(device) for row in ids if row is not None]
        inputs = layout.input_ids(tokens, torch.cat(known) if known else None)
        frames_Bt = None
        if keys is not None:
            names = [(None, *row) for row in keys[rows]]
            ids_Bt = [[conditions.id(name) for name in row] for row in names]
            frames_Bt = torch.tensor(ids_Bt, device=device)
        features = model.features(inputs, layout, conditions_Bt=frames_Bt)
        features = features[:, layout.prefix_len :]
        logits_BVM = model.video_logits(features).float().transpose(1, 2)
        targets_BM = layout.targets(tokens)[:, layout.prefix_len :]
        losses_BM = F.cross_entropy(logits_BVM, targets_BM, reduction="none")
        of_frame_Mt = F.one_hot(frame_M, num_frames).to(losses_BM)
        found.append((losses_BM @ of_frame_Mt / of_frame_Mt.sum(0)).cpu().numpy())
    return np.concatenate(found).astype(np.float64)
