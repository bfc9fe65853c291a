"""The records of a generation: its steps, its times and its result.

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
    """One forward pass. For a batch, tokens and frames are those of the first sample."""

    index: int
    """Counts from 0 over the whole video."""
    num_steps: int
    phase: str
    """'prefill', 'token' or 'block'."""
    tokens: Tokens
    """(n,) the new tokens."""
    places: Tokens
    """(n,) the raster places of the new tokens in the whole video's (t, h, w) grid."""
    elapsed: float
    """Seconds since the generation began."""
    step_s: float
    """Seconds of this forward pass and its sampling."""
    cache_length: int
    """Positions in the KV cache after this step."""
    cache_bytes: int
    """Bytes of the keys and values of these positions."""
    new_frames: Frames | None
    """frames_THWC of the latent frames that this step completed, or None."""


class Timings(TypedDict):
    """Seconds of encoding the context, of the first step, of the others, and of decoding to pixels.

    On a CPU, decode_s and detokenize_s overlap. per_step_s has every step, the first one included.
    """

    tokenize_s: float
    prefill_s: float
    decode_s: float
    detokenize_s: float
    per_step_s: list[float]


@dataclass(frozen=True)
class Generation:
    """A clip, its tokens, its times, and the manifest that repeats it."""

    frames_THWC: Frames
    tokens_thw: Tokens
    """Whole latent frames only, so fewer than requested after a stop."""
    steps: int
    timings: Timings
    manifest: dict[str, Any]
    is_complete: bool
