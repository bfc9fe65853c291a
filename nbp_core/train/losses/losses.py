"""Training losses. Shapes: B batch, C colour, T H W pixels, M predicted positions, V codebook."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nbp_core.evaluation.metrics import STILL_LEVELS


def reconstruction_loss(
    output_BCTHW: Tensor, clip_BCTHW: Tensor, l1_weight: float
) -> tuple[Tensor, Tensor]:
    """(loss, mean squared error) of a reconstruction: 4 MSE + l1_weight * L1.

    The squared error dominates early training; an L1 loss of its weight stalls at a grey clip.
    """
    output = output_BCTHW.float()
    mse = F.mse_loss(output, clip_BCTHW)
    return 4 * mse + l1_weight * F.l1_loss(output, clip_BCTHW), mse


def token_loss(logits_BMV: Tensor, targets_BM: Tensor, weights_BM: Tensor | None = None) -> Tensor:
    """Mean cross-entropy in nats per token over the video ids; 0 without positions.

    weights_BM: a factor for each token. The sum is still divided by the number of tokens, so that
    the parts of a batch add up to the whole.
    """
    logits_MV = logits_BMV.flatten(0, 1).float()
    losses_M = F.cross_entropy(logits_MV, targets_BM.flatten(), reduction="none")
    if weights_BM is not None:
        losses_M = losses_M * weights_BM.flatten()
    return losses_M.sum() / max(1, targets_BM.numel())


def spread_loss(latent_BthwD: Tensor) -> Tensor:
    """Distance of the latent channels from mean 0 and identity covariance.

    At a distance of 0 all levels of FSQ are used, and no two channels are correlated.
    """
    flat = latent_BthwD.flatten(0, -2)
    centred = flat - flat.mean(0)
    covariance = centred.T @ centred / len(flat)
    identity = torch.eye(flat.shape[1], device=flat.device)
    return flat.mean(0).square().mean() + (covariance - identity).square().mean()


STILL_RANGE = STILL_LEVELS / 255


def _moves(frames_BCTHW: Tensor) -> Tensor:
    """(B, H, W): the largest change of each pixel from its first value."""
    return (frames_BCTHW - frames_BCTHW[:, :, :1]).abs().amax((1, 2))


def flicker_loss(output_BCTHW: Tensor, clip_BCTHW: Tensor) -> Tensor:
    """Mean change of reconstructed pixels from one frame to the next where the clip's pixels are
    still; 0 if none is."""
    still_B11HW = (_moves(clip_BCTHW) <= STILL_RANGE)[:, None, None]
    change = output_BCTHW.float().diff(dim=2).abs() * still_B11HW
    count = still_B11HW.sum() * change.shape[1] * change.shape[2]
    return change.sum() / count.clamp(min=1)


def stillness_loss(bounded_BthwD: Tensor, clip_BCTHW: Tensor) -> Tensor:
    """Mean change of latents from one latent frame to the next, in FSQ levels, at still places.

    bounded_BthwD: the latent after FSQ.bound, with t = 1 + (T - 1) / 4. A place is still if all
    pixels of both of its latents are; 0 if no place is still.
    """
    num_latent = bounded_BthwD.shape[1]
    if num_latent == 1:
        return bounded_BthwD.new_zeros(())
    stride = (clip_BCTHW.shape[2] - 1) // (num_latent - 1)
    side = clip_BCTHW.shape[3] // bounded_BthwD.shape[2]
    moves = []
    for index in range(1, num_latent):
        frames = clip_BCTHW[:, :, max(0, stride * (index - 2) + 1) : stride * index + 1]
        moves.append(F.max_pool2d(_moves(frames), side))
    still = (torch.stack(moves, 1) <= STILL_RANGE).unsqueeze(-1)
    change = bounded_BthwD.diff(dim=1).abs() * still
    return change.sum() / (still.sum() * bounded_BthwD.shape[-1]).clamp(min=1)
