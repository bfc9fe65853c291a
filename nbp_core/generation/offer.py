"""What a model can generate, read from its configuration alone. Imports no torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import get_args

from nbp_core.blocks.steps import sequence_plan, supported_shapes
from nbp_core.config.description import load_config
from nbp_core.config.models import TokenGridConfig, TokenizerConfig, TransformerConfig
from nbp_core.config.presets import COSMOS
from nbp_core.config.shapes import CLIP_FRAMES, Size3, check_sides
from nbp_core.config.tokenizer_folder import tokenizer_folder
from nbp_core.generation.recording import World
from nbp_core.generation.segments import Segment, plan_segments
from nbp_core.transformer.prompts import condition_names, has_text

WORLDS: tuple[World, ...] = get_args(World)
CAMERA_STILL = "still"


class ModelOffer:
    """The actions, block shapes, lengths and worlds of a transformer with its tokenizer."""

    def __init__(self, config: TransformerConfig, tokenizer: TokenGridConfig) -> None:
        self.config = config
        self.tokens = tokenizer
        """The tokenizer's codes and grid."""
        self.name = config.name
        self.tokenizer_name = tokenizer.name
        self.actions = condition_names(config)
        self.grid = config.grid
        self.block_shapes = supported_shapes(config)

    @property
    def needs_context(self) -> bool:
        """Whether the model can only continue known frames, since it has no conditions."""
        return self.config.layout == "plain"

    @property
    def needs_action(self) -> bool:
        """Whether every clip needs an action. Such a model does not support guidance either."""
        return has_text(self.config)

    @property
    def timeline_names(self) -> tuple[str, ...]:
        """All names that a list of actions for one clip may hold: first the actions, then the keys.
        Empty for a model with one action per clip."""
        return (*self.actions, *self.config.keys) if self.config.frame_conditions else ()

    @property
    def window(self) -> int | None:
        """Number of recent latent frames that a play attends to, besides the first; None for a
        model that cannot be played."""
        return self.config.window if self.config.frame_conditions else None

    @property
    def key_guidance(self) -> float:
        """Guidance scale of a play whose sampling names none."""
        return self.config.key_guidance

    @property
    def worlds(self) -> tuple[World, ...]:
        """The worlds whose keys the model knows; empty for a model that cannot be played."""
        if self.window is None:
            return ()
        return tuple(world for world in WORLDS if keys_of(self.config, world))

    def num_steps(
        self, block_shape: Size3, num_context_frames: int = 0, num_frames: int = CLIP_FRAMES
    ) -> int:
        """Number of steps of a generation, prefills included. Raises ValueError as `generate`."""
        check_sides("block shape", block_shape)
        segments = self._segments(block_shape, num_context_frames, num_frames)
        return sum(self._segment_steps(block_shape, segment) for segment in segments)

    def _segments(
        self, block_shape: Size3, num_context_frames: int, num_frames: int
    ) -> list[Segment]:
        is_endless = self.window is not None and block_shape[0] == 1
        return plan_segments(
            num_context_frames, num_frames, self.grid[0], self.tokens, is_endless
        )  # fmt: skip

    def _segment_steps(self, block_shape: Size3, segment: Segment) -> int:
        frame_tokens = math.prod(self.grid[1:])
        if segment.is_over_window:
            return segment.new * (frame_tokens // math.prod(block_shape))
        plan = sequence_plan(self.config, block_shape, segment.total)
        return len(plan.decode_steps(segment.known * frame_tokens))


def read_offer(folder: Path) -> ModelOffer:
    """What the transformer in a model folder can make. Raises CheckpointError."""
    config = load_config(folder, TransformerConfig)
    tokenizer = tokenizer_folder(folder)
    return ModelOffer(
        config, COSMOS if tokenizer is None else load_config(tokenizer, TokenizerConfig)
    )


def keys_of(config: TransformerConfig, world: World) -> tuple[str, ...]:
    """The keys of a world; empty if the model was not trained for it."""
    if world == "arm":
        return tuple(key for key in config.keys if key != CAMERA_STILL)
    moves = tuple(name for name in config.actions if is_camera_move(name))
    return (CAMERA_STILL, *moves) if CAMERA_STILL in config.keys else ()


def checked_keys(config: TransformerConfig, world: World) -> tuple[str, ...]:
    """The keys of a world. Raises ValueError, one sentence, if the model was not trained for it."""
    keys = keys_of(config, world)
    if not keys:
        others = [other for other in WORLDS if keys_of(config, other)]
        but = f", only for the {others[0]} world" if others else ""
        raise ValueError(f"model {config.name!r} has no keys for the {world} world{but}")
    return keys


def is_camera_move(action: str) -> bool:
    """Whether an action moves the camera rather than something in the scene."""
    return action.split("-")[0] in ("pan", "zoom", "turn")
