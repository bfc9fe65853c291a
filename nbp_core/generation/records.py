"""What a generation is made of: its plan in segments, its steps as they happen, its result.

Shapes: frames_THWC uint8; tokens_thw int64; n tokens of a step. Numpy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from nbp_core.media.files import Frames

Tokens = NDArray[np.int64]


@dataclass(frozen=True)
class BlockStep:
    """One forward step, as it happened. Of a batch, the first sample is shown."""

    index: int
    """Counts from 0 over the whole video."""
    num_steps: int
    phase: str
    """'prefill', 'token' or 'block'."""
    tokens: Tokens
    """(n,) the new tokens."""
    places: Tokens
    """(n,) their raster places in the whole video's (t, h, w) token grid."""
    elapsed: float
    """Seconds since the generation began."""
    step_s: float
    """Seconds of this forward step and its sampling."""
    cache_length: int
    cache_bytes: int
    new_frames: Frames | None
    """frames_THWC that this step completed: those of whole latent frames."""


class Timings(TypedDict):
    """Seconds: context to tokens, the first step, the other steps, tokens to pixels. On a processor
    the last two overlap."""

    tokenize_s: float
    prefill_s: float
    decode_s: float
    detokenize_s: float
    per_step_s: list[float]


@dataclass(frozen=True)
class Generation:
    """A clip and everything known about how it was made."""

    frames_THWC: Frames
    tokens_thw: Tokens
    """Whole latent frames only: shorter than asked when stopped."""
    steps: int
    timings: Timings
    manifest: dict[str, Any]
    is_complete: bool
