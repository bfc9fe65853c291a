"""Sampling without end: a KV cache of the first latent frame and the most recent ones.

The first latent frame is the anchor (attention sinks, arXiv 2309.17453) and stays in the cache. A
window of the most recent latent frames follows it. Older frames are dropped and nothing is computed
again. The rotary positions of the anchor's keys move along, so that the anchor's distance in time
never exceeds that of training. The caller supplies the condition of each latent frame when it is
sampled.
Shapes: B clips, R sequences (twice as many with guidance), n positions, h w places.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

from nbp_core.blocks.grid import BlockLayout
from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import Size3, format_block_shape
from nbp_core.packed.model import PackedTransformer
from nbp_core.sampling.drawing import drawing
from nbp_core.sampling.filters import guided
from nbp_core.transformer.attention import Rotation
from nbp_core.transformer.model import BlockTransformer
from nbp_core.transformer.positions import PositionInputs, turned_later

ANCHOR_DISTANCE = 12
"""Largest distance in latent frames from the anchor to the new frame; training has up to 16."""


class WindowSampler:
    """Samples one latent frame per call of `next` or `blocks`."""

    @torch.inference_mode()
    def __init__(
        self,
        model: BlockTransformer,
        known_Bthw: Tensor,
        sampling: SamplingConfig,
        rngs: Sequence[torch.Generator],
        conditions_Bt: Tensor | None = None,
        num_dropped: int = 0,
        window: int | None = None,
        has_anchor: bool = True,
        is_decoding: Callable[[], bool] = lambda: False,
    ) -> None:
        """known_Bthw: tokens of the first latent frame and of the most recent ones, on the model's
        device. Of the recent ones, at most `window` are used.
        rngs: one per clip.
        conditions_Bt: condition ids of the known latent frames; default: no condition.
        num_dropped: number of unknown latent frames between the first and the recent ones.
        window: number of latent frames that are kept besides the first; default: the model's own.
        has_anchor: whether the first latent frame stays in the cache. If not, it is dropped like
        the others.
        is_decoding: asked before each step, whether another thread decodes frames now. The step of
        a small model then leaves it a core.

        Raises ValueError for a model without a window or without conditions per latent frame, and
        for blocks that span latent frames.
        """
        config = model.config
        shape = sampling.block_shape or config.block_shape
        check(config.name, config.window if config.frame_conditions else None, shape)
        assert config.window is not None
        self.model = model
        self._steps = model.steps if isinstance(model, PackedTransformer) else None
        self.sampling = sampling
        self.window = window or config.window
        self._has_anchor = has_anchor
        self._is_decoding = is_decoding
        recent = max(1, known_Bthw.shape[1] - self.window)
        num_dropped += recent - 1
        known_Bthw = torch.cat([known_Bthw[:, :1], known_Bthw[:, recent:]], 1)
        self._rngs = rngs
        self._batch, _, height, width = known_Bthw.shape
        self._frame_len = height * width
        self._draw = drawing(sampling, rngs, self._frame_len)
        self._grid = BlockLayout((1, height, width), shape)
        # In a layout of this many latent frames, every position sees the whole cache.
        self._layout = sequence_layout(config, shape, self.window + 2)
        self._is_guided = sampling.guidance != 1
        self._none = config.first_condition_id + config.num_conditions - 1
        self._held = known_Bthw.shape[1] - 1
        """Latent frames in the cache, besides the first."""
        # Only distances in time matter, and the distance of the anchor is bounded.
        num_dropped = max(0, min(num_dropped, ANCHOR_DISTANCE - 1 - self._held))
        self._frame = self._held + num_dropped
        """The number of the latest latent frame; the first is 0."""
        if conditions_Bt is not None:
            conditions_Bt = torch.cat([conditions_Bt[:, :1], conditions_Bt[:, recent:]], 1)
        self._prefill(known_Bthw, conditions_Bt, num_dropped)

    def _prefill(self, known_Bthw: Tensor, conditions_Bt: Tensor | None, num_dropped: int) -> None:
        """Fills the cache with the known latent frames, except for the last block."""
        model, layout, num_known = self.model, self._layout, known_Bthw.shape[1]
        rows = self._batch * (2 if self._is_guided else 1)
        tokens = known_Bthw.new_zeros((self._batch, *layout.blocks.grid))
        tokens[:, :num_known] = known_Bthw
        conditions_Rt = known_Bthw.new_full((rows, num_known), self._none)
        if conditions_Bt is not None:
            conditions_Rt[: self._batch] = conditions_Bt
        # The prefix is the condition of the first latent frame.
        ids_RL = layout.input_ids(tokens.repeat(rows // self._batch, 1, 1, 1), conditions_Rt[:, :1])
        size = layout.blocks.block_len
        self._start = layout.decode_steps(self._frame_len)[0].stop - size
        """Position of the block that predicts the first block of the second latent frame."""
        stop = self._start + (num_known - 1) * self._frame_len
        self._cache = model.new_cache(rows, layout.length)
        model.features(
            ids_RL[:, :stop],
            layout,
            cache=self._cache,
            inputs=model.position_inputs(layout, num_dropped),
            conditions_Bt=conditions_Rt,
        )
        self._ids_Rn = ids_RL[:, stop : stop + size]
        self._anchor_len = self._start + size
        self._anchor: Tensor | None = None

    @property
    def num_steps(self) -> int:
        """Number of forward passes per latent frame."""
        return self._layout.blocks.grid[1] * self._layout.blocks.grid[2] // self._grid.block_len

    @property
    def cache_length(self) -> int:
        """Number of positions in the cache."""
        return self._cache.length

    @property
    def cache_bytes(self) -> int:
        """Bytes of the filled part of the cache."""
        return self._cache.num_bytes

    def next(self, condition: int | Tensor) -> Tensor:
        """Samples the tokens (B, h, w) of the next latent frame under a condition id, or under one
        for each clip (B)."""
        blocks = list(self.blocks(condition))
        return self._grid.to_grid(torch.stack(blocks, 1))[:, 0]

    @torch.inference_mode()
    def blocks(self, condition: int | Tensor) -> Generator[Tensor]:
        """Like `next`, but yields the tokens (B, n) of each block. Take all before another call."""
        self._frame += 1
        if self._held > self.window:
            self._forget_oldest()
        if self._frame > ANCHOR_DISTANCE and self._anchor_len:
            self._move_anchor(self._frame - ANCHOR_DISTANCE)
        inputs, condition_R1 = self._inputs(), self._condition(condition)
        self._held += 1
        rotations = self.model.by_layer(inputs, condition_R1)
        for step in range(self.num_steps):
            tokens_Bn = self._block(inputs, rotations, condition_R1, step)
            ids = tokens_Bn + self.model.config.first_video_id
            self._ids_Rn = ids.repeat(2 if self._is_guided else 1, 1)
            yield tokens_Bn

    def _inputs(self) -> PositionInputs:
        """Position inputs of the positions that predict this latent frame.

        A frame beyond the layout has the inputs of the layout's last frame, shifted in time.
        """
        start = self._start + self._held * self._frame_len
        here = slice(start, start + self._frame_len)
        return self.model.position_inputs(self._layout, self._frame - self._held - 1, here)

    def _condition(self, condition: int | Tensor) -> Tensor:
        rows = self._ids_Rn.new_full((len(self._ids_Rn), 1), self._none)
        rows[: self._batch, 0] = condition
        return self.model.condition_index(rows)

    def _block(
        self,
        inputs: PositionInputs,
        by_layer: list[PositionInputs],
        condition_R1: Tensor,
        step: int,
    ) -> Tensor:
        """Feeds the last block and samples the next one, (B, n)."""
        model, cache, size = self.model, self._cache, self._grid.block_len
        here = slice(step * size, (step + 1) * size)
        is_listed = self.sampling.method == "paper" and self.sampling.temperature > 0
        if self._steps is not None and is_listed:
            x_RnD = model.embed(self._ids_Rn, inputs.added_LD[here], condition_R1)
            rotations: list[Rotation | None] = [inputs.rotation for inputs in by_layer]
            tokens_Bn = self._steps.draw(
                x_RnD,
                cache,
                rotations,
                here.start,
                self.sampling,
                self._rngs,
                not self._is_decoding(),
            )
        else:
            features = model.features_here(self._ids_Rn, inputs.at(here), condition_R1, None, cache)
            logits = guided(model.video_logits(features), self._batch, self.sampling)
            tokens_Bn = self._draw(logits, self._grid.places_NS[step])
        cache.length += size
        return tokens_Bn

    def _forget_oldest(self) -> None:
        """Drops the window's oldest latent frame from the cache and moves the later ones up.

        Without an anchor, the first latent frame is dropped together with the oldest one.
        """
        cache = self._cache
        end = self._anchor_len + self._frame_len
        if not self._has_anchor:
            self._anchor_len = 0
        size = end - self._anchor_len
        for memory in (cache.keys, cache.values):
            kept = memory[..., end : cache.length, :].clone()
            memory[..., self._anchor_len : cache.length - size, :] = kept
        cache.length -= size
        self._held -= 1

    def _move_anchor(self, num_frames: int) -> None:
        """Rotates the anchor's keys as if the anchor were this many latent frames later."""
        keys = self._cache.keys[..., : self._anchor_len, :]
        if self._anchor is None:
            self._anchor = keys.clone()
        keys.copy_(turned_later(self._anchor, num_frames))


def check(name: str, window: int | None, shape: Size3) -> None:
    """Raises ValueError if the model does not support endless sampling in this block shape."""
    if window is None:
        raise ValueError(
            f"model {name!r} cannot be played: it was not trained with a window and keys"
        )
    if shape[0] > 1:
        raise ValueError(
            f"blocks of {format_block_shape(shape)} span latent frames; each needs its own key"
        )
