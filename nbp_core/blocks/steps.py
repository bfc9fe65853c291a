"""The forward passes that make a clip: the input sequence of a model in blocks, without tensors.

Shapes: S tokens per block, P condition tokens, L input positions. Source: section 3.3 of the paper;
the elastic layout is our own. This module does not import torch, which takes a second, so a model
is described at once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from nbp_core.blocks.grid import BlockLayout, tiles
from nbp_core.config.models import TransformerConfig
from nbp_core.config.shapes import FIGURE6_SHAPES, LayoutKind, Size3, format_block_shape


@dataclass(frozen=True)
class DecodeStep:
    """One forward pass of decoding: feed positions [start, stop), sample tokens [first, last).

    Positions index the input sequence. Tokens are counted in block order. The sampler reads the
    logits of the last `last - first` positions that were fed.
    """

    phase: str
    """'prefill' (the first step), 'token' or 'block'."""
    start: int
    stop: int
    first: int
    last: int


@dataclass(frozen=True)
class SequencePlan:
    """The input positions of one clip, and the forward passes that make it.

    plain:  [block 1] ... [block N-1]
    hybrid: [P conditions][BOV][S tokens of block 1][S-1 middle tokens][block 2] ... [block N-1]
    elastic: hybrid, for any block shape with one set of weights.

    In a hybrid sequence, BOV (begin of video) and the first S - 1 tokens each predict the next
    token. The last token of block 1 and the middle tokens together are the input block that
    predicts block 2. From then on each block predicts the next one.
    """

    kind: LayoutKind
    blocks: BlockLayout
    prefix_len: int
    first_video_id: int
    """Smaller ids are special tokens (0 = BOV, 1..S-1 = middle tokens) and conditions."""
    window: int | None = None
    """Number of latent frames before the predicted one that a position attends to, besides the
    first frame; None: all."""

    @property
    def head_len(self) -> int:
        """Positions before block 2 enters: prefix, BOV, block 1 and its middle tokens."""
        s = self.blocks.block_len
        return s if self.kind == "plain" else self.prefix_len + 1 + s + s - 1

    @property
    def length(self) -> int:
        """L, the number of input positions of a clip. The last block is predicted, never fed."""
        return self.head_len + (self.blocks.num_blocks - 2) * self.blocks.block_len

    def known_blocks(self, num_known_tokens: int) -> int:
        """The number of blocks that a context of `num_known_tokens` tokens fills.

        Raises ValueError if the context does not end on a block boundary, if it leaves nothing to
        generate, or if a plain model has no context.
        """
        known, rest = divmod(num_known_tokens, self.blocks.block_len)
        # A block that spans time may reach into frames after the context.
        if rest or self.blocks.reach(known) > num_known_tokens:
            raise ValueError(
                f"a context of {num_known_tokens} tokens does not end on a boundary of "
                f"{format_block_shape(self.blocks.block_shape)} blocks"
            )
        if known >= self.blocks.num_blocks:
            raise ValueError("the context is as long as the clip; nothing is left to generate")
        if known == 0 and self.kind == "plain":
            raise ValueError("this model has no prefix: it needs at least one known frame")
        return known

    def decode_steps(self, num_known_tokens: int) -> list[DecodeStep]:
        """The forward passes that complete a clip after a context. The first is the prefill."""
        s, p = self.blocks.block_len, self.prefix_len
        known = self.known_blocks(num_known_tokens)
        steps: list[DecodeStep] = []
        if known == 0:
            steps = [
                DecodeStep("token", 0 if i == 0 else p + i, p + i + 1, i, i + 1) for i in range(s)
            ]
            start, known = p + s, 1
        else:
            start = 0
        for block in range(known, self.blocks.num_blocks):
            stop = self.head_len + (block - 1) * s
            steps.append(DecodeStep("block", start, stop, block * s, (block + 1) * s))
            start = stop
        return [replace(steps[0], phase="prefill"), *steps[1:]]


def supported_shapes(config: TransformerConfig) -> tuple[Size3, ...]:
    """The block shapes of a model: the paper's six for an elastic one, else the trained one."""
    if config.layout != "elastic":
        return (config.block_shape,)
    return tuple(shape for shape in FIGURE6_SHAPES if tiles(config.grid, shape))


@lru_cache(maxsize=64)
def sequence_plan(
    config: TransformerConfig,
    block_shape: Size3 | None = None,
    num_latent_frames: int | None = None,
) -> SequencePlan:
    """The sequence plan of a model for one block shape (default: the shape in its config).

    num_latent_frames changes the grid's length in time. A model with a window supports longer
    clips than its own, all models support shorter ones. Raises ValueError for a block shape or a
    length that the model does not support.
    """
    shape = config.block_shape if block_shape is None else block_shape
    if config.layout != "elastic" and shape != config.block_shape:
        raise ValueError(
            f"model {config.name!r} was trained for block shape "
            f"{format_block_shape(config.block_shape)} only, not {format_block_shape(shape)}"
        )
    t, h, w = config.grid
    grid = (t if num_latent_frames is None else num_latent_frames, h, w)
    if grid[0] > t and config.window is None:
        raise ValueError(
            f"model {config.name!r} makes at most {t} latent frames at once, not {grid[0]}"
        )
    blocks = BlockLayout(grid, shape)
    if config.layout != "plain" and blocks.block_len > config.num_special:
        raise ValueError(
            f"blocks of {blocks.block_len} tokens are too large for model {config.name!r}"
        )
    window = config.window
    return SequencePlan(config.layout, blocks, config.prefix_len, config.first_video_id, window)
