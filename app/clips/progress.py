"""A moment of a run, as the page draws it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nbp_core.config.shapes import CLIP_FRAMES, Size3
from nbp_core.media.files import Frames

NO_TOKEN = -1
GIVEN = -1
"""Marks tokens of the context, which no step made."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """A moment of a run, for the page to draw; nothing in it changes afterwards."""

    step: int
    num_steps: int
    phase: str
    elapsed: float
    """Seconds since the run began, without those it was paused."""
    num_tokens: int
    """Tokens made so far, without those of the context."""
    tokens_thw: npt.NDArray[np.int64]
    """The whole video's tokens; NO_TOKEN where none has been made."""
    newest: npt.NDArray[np.int64]
    """Places of the block just made."""
    block_shape: Size3
    frame_HWC: Frames | None
    num_context_frames: int
    num_frames: int
    total_frames: int
    cache_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Making:
    """When every part of a finished clip was there, for a replay of its making."""

    tokens_thw: npt.NDArray[np.int64]
    """Tokens of all complete latent frames, including the context."""
    step_thw: npt.NDArray[np.int32]
    """The step, from 0, that made each token; GIVEN for those of the context."""
    step_s: tuple[float, ...]
    """Seconds from the start to the end of each step, without pauses."""
    frame_s: tuple[float, ...]
    """Seconds from the start until each frame was decoded; those of the context come first."""
    codebook_size: int
    side: int
    """Width and height of a frame, in pixels."""


def video_grid(clip_grid: Size3, num_frames: int) -> Size3:
    """The token grid of a video that may be longer than one clip of the model."""
    t, h, w = clip_grid
    return 1 + (num_frames - 1) * (t - 1) // (CLIP_FRAMES - 1), h, w
