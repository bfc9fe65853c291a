"""A second look: a block that was drawn is fed once more as a draft of itself, its least likely
tokens masked, and those are drawn again, now that the others are known.

Shapes: B batch (R rows with guidance), S tokens of a block, L positions, V codes. It masks and
predicts as MaskGIT does (arXiv 2202.04200), but within a block, and once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from nbp_core.blocks.sequences import DecodeStep, SequenceLayout
from nbp_core.sampling.filters import guide
from nbp_core.sampling.sampler import Sampler
from nbp_core.transformer.attention import KVCache


@dataclass(frozen=True)
class DraftLayout(SequenceLayout):
    """The sequence up to a block, and then that block: a draft, each of whose positions predicts
    the place it stands at. That its target is its own place is all a model is told about it."""

    draft: int = 1
    """Which block, counted from 0; the first one is predicted token by token, never drafted."""

    @property
    def length(self) -> int:
        """All before the draft, and the draft."""
        return self.head_len + self.draft * self.blocks.block_len

    @cached_property
    def target_L(self) -> Tensor:
        """Index of the video token each position predicts: in the draft, its own."""
        s = self.blocks.block_len
        return torch.cat([super().target_L[:-s], self.source_L[-s:]])


@lru_cache(maxsize=128)
def draft_layout(layout: SequenceLayout, draft: int) -> DraftLayout:
    """Raises ValueError for a block that is never predicted whole."""
    if not 0 < draft < layout.blocks.num_blocks:
        raise ValueError(f"block {draft + 1} of {layout.blocks.num_blocks} cannot be a draft")
    return DraftLayout(layout.kind, layout.blocks, layout.prefix_len, layout.first_video_id, draft)


def masked(ids_BS: Tensor, is_masked_BS: Tensor) -> Tensor:
    """Ids of a draft with special tokens instead of some, as many kinds as a block has places."""
    return torch.where(is_masked_BS, torch.arange(ids_BS.shape[1], device=ids_BS.device), ids_BS)


def least_likely(logits_BSV: Tensor, tokens_BS: Tensor, share: float) -> Tensor:
    """(B, S) bool: the share of a block's tokens that the logits gave the least probability."""
    log_probs = logits_BSV.float().log_softmax(-1).gather(-1, tokens_BS[..., None])[..., 0]
    count = round(share * tokens_BS.shape[1])
    chosen = log_probs.argsort(-1)[:, :count]
    return torch.zeros_like(tokens_BS, dtype=torch.bool).scatter(-1, chosen, True)


class SecondLookSampler(Sampler):
    """Drafts are exact draws of the paper's; tokens that are drawn again come from the model's
    distribution given those that are kept, filtered as the paper's. Which are kept is a choice, so
    the whole is not next-block prediction's distribution. Costs one further forward a block. The
    first block's single tokens are seen once.
    """

    def _room(self) -> int:
        return self.layout.length + self.layout.blocks.block_len

    def _settle(
        self, tokens_BS: Tensor, logits_BSV: Tensor, step: DecodeStep, cache: KVCache
    ) -> Tensor:
        is_masked = least_likely(logits_BSV, tokens_BS, self.sampling.method_strength)
        if step.last - step.first == 1 or not is_masked.any():
            return tokens_BS
        size = self.layout.blocks.block_len
        layout = draft_layout(self.layout, step.first // size)
        ids = masked(tokens_BS + self.layout.first_video_id, is_masked)
        rows = cache.keys.shape[1] // len(ids)
        features = self.model.features(ids.repeat(rows, 1), layout, start=step.stop, cache=cache)
        # The draft is forgotten: what later blocks see is the block itself, fed as any other.
        cache.length = step.stop
        logits = self.model.video_logits(features)
        if rows > 1:
            given, without = logits.chunk(2)
            logits = guide(given, without, self.sampling.guidance_scale)
        return torch.where(is_masked, self._draw(logits, self._places(step)), tokens_BS)
