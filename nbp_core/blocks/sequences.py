"""BLOCKS as sequences: input ids, targets, places, the block mask (`mask_LL`).

Shapes: B batch, t h w grid, S tokens per block, P condition tokens, L input positions. 'Place' is a
token's raster index in the grid; 'index' is its rank in block order. Source: section 3.3 and
figure 4 of the paper; the elastic layout is our own. This module does not know models.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from nbp_core.blocks.steps import SequencePlan, sequence_plan
from nbp_core.config.models import TransformerConfig
from nbp_core.config.shapes import NO_TOKEN, Size3


@dataclass(frozen=True)
class SequenceLayout(SequencePlan):
    """A sequence plan with the token, the place and the segment of each input position."""

    @property
    def _full_length(self) -> int:
        """Length including the whole head, of which a single-block clip feeds only a part."""
        return max(self.length, self.head_len)

    @property
    def _num_middle(self) -> int:
        return 0 if self.kind == "plain" else self.blocks.block_len - 1

    @property
    def _middle(self) -> slice:
        return slice(self.head_len - self._num_middle, self.head_len)

    @cached_property
    def source_L(self) -> Tensor:
        """Index of the video token at each position; NO_TOKEN for prefix and middle tokens."""
        s = self.blocks.block_len
        source = torch.full((self._full_length,), NO_TOKEN)
        first = 0 if self.kind == "plain" else self.prefix_len + 1
        source[first : first + s] = torch.arange(s)
        source[self.head_len :] = torch.arange(s, s + self._full_length - self.head_len)
        return source[: self.length]

    @cached_property
    def special_L(self) -> Tensor:
        """Id of the special token at each position (BOV is 0, middle tokens), 0 elsewhere."""
        special = torch.zeros(self._full_length, dtype=torch.int64)
        special[self._middle] = torch.arange(1, self.blocks.block_len)[: self._num_middle]
        return special[: self.length]

    @cached_property
    def target_L(self) -> Tensor:
        """Index of the video token that each position predicts; NO_TOKEN for conditions."""
        s, p = self.blocks.block_len, self.prefix_len
        target = torch.full((self.length,), NO_TOKEN)
        blockwise = 0
        if self.kind != "plain":
            target[p : p + s] = torch.arange(s)
            blockwise = p + s
        target[blockwise:] = torch.arange(s, s + self.length - blockwise)
        return target

    @cached_property
    def place_L(self) -> Tensor:
        """Place in the grid of each position; NO_TOKEN for conditions and BOV.

        A middle token has the place of the token of block 1 that it stands in for.
        """
        index = torch.where(self.special_L > 0, self.special_L, self.source_L)
        return self._places(index)

    @cached_property
    def target_place_L(self) -> Tensor:
        """Place in the grid of the token that each position predicts, or NO_TOKEN."""
        return self._places(self.target_L)

    def _places(self, index_L: Tensor) -> Tensor:
        places = self.blocks.places_NS.flatten()[index_L.clamp(min=0)]
        return torch.where(index_L == NO_TOKEN, NO_TOKEN, places)

    @cached_property
    def frame_L(self) -> Tensor:
        """Latent frame of each position, 0 for the prefix and BOV."""
        return self.place_L.clamp(min=0) // self._frame_len

    @cached_property
    def target_frame_L(self) -> Tensor:
        """Latent frame of the token that each position predicts, 0 for conditions."""
        return self.target_place_L.clamp(min=0) // self._frame_len

    def of_targets(self, values_Bt: Tensor | None, here: slice) -> Tensor | None:
        """Values per latent frame -> (B, L): for each position in `here` the predicted frame's.

        (B, 1), one value for all frames, and None are returned unchanged.
        """
        if values_Bt is None or values_Bt.shape[1] == 1:
            return values_Bt
        return values_Bt[:, self.target_frame_L[here].to(values_Bt.device)]

    @property
    def _frame_len(self) -> int:
        _, h, w = self.blocks.grid
        return h * w

    @cached_property
    def segment_L(self) -> Tensor:
        """Segment number of each position, ascending.

        A position attends to its own segment in both directions and to all earlier segments. The
        conditions form segment 0. Each position that predicts one token is a segment of its own.
        Then every block is a segment; the first of these is {token S, middle tokens}.
        """
        s, p = self.blocks.block_len, self.prefix_len
        if self.kind == "plain":
            return torch.arange(self.length) // s
        one_by_one = torch.arange(1, 1 + s)
        rest = torch.arange(self.length - p - s) // s + 1 + s
        return torch.cat([torch.zeros(p, dtype=torch.int64), one_by_one, rest])

    @cached_property
    def mask_LL(self) -> Tensor:
        """The block mask, bool (L, L): True where the query (row) may attend to the key (column).

        With a window, a query does not see frames that are more than `window` latent frames before
        the predicted one, except for the first frame. Source: figure 4 of the paper; the window is
        our own.
        """
        allowed = self.segment_L[:, None] >= self.segment_L[None, :]
        if self.window is None:
            return allowed
        oldest_L = self.target_frame_L - self.window
        return allowed & ((self.frame_L == 0) | (self.frame_L >= oldest_L[:, None]))

    def input_ids(self, tokens_Bthw: Tensor, conditions_BP: Tensor | None = None) -> Tensor:
        """Tokens of whole clips -> input ids_BL. The tokens must have this layout's grid."""
        flat = self.blocks.to_blocks(tokens_Bthw).flatten(1)
        source = self.source_L.to(flat.device)
        ids = torch.where(
            source == NO_TOKEN,
            self.special_L.to(flat.device),
            flat[:, source.clamp(min=0)] + self.first_video_id,
        )
        return self.with_conditions(ids, conditions_BP)

    def sees_all(self, start: int, stop: int) -> bool:
        """Whether each position in [start, stop) attends to all positions before `stop`."""
        if self.window is not None and int(self.target_frame_L[stop - 1]) > self.window + 1:
            return False
        return bool(self.segment_L[start] >= self.segment_L[stop - 1])

    def with_conditions(self, ids_BL: Tensor, conditions_BP: Tensor | None) -> Tensor:
        """The ids with the condition ids in the prefix. Raises ValueError if they are missing."""
        if self.prefix_len == 0:
            return ids_BL
        if conditions_BP is None:
            raise ValueError(f"this layout needs {self.prefix_len} condition ids per clip")
        return torch.cat([conditions_BP, ids_BL[:, self.prefix_len :]], dim=1)

    def targets(self, tokens_Bthw: Tensor) -> Tensor:
        """The video token (without id offset) that each position predicts: (B, L), or NO_TOKEN."""
        flat = self.blocks.to_blocks(tokens_Bthw).flatten(1)
        target = self.target_L.to(flat.device)
        return torch.where(target == NO_TOKEN, NO_TOKEN, flat[:, target.clamp(min=0)])


@lru_cache(maxsize=64)
def sequence_layout(
    config: TransformerConfig,
    block_shape: Size3 | None = None,
    num_latent_frames: int | None = None,
) -> SequenceLayout:
    """The sequence layout of a model, with the arguments and errors of steps.sequence_plan."""
    plan = sequence_plan(config, block_shape, num_latent_frames)
    return SequenceLayout(plan.kind, plan.blocks, plan.prefix_len, plan.first_video_id, plan.window)
