"""What a generation is made of: its plan in segments, its steps as they happen, its result.

Shapes: frames_THWC uint8; tokens_thw int64; n tokens of a step. Numpy only.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from nbp_core.config import SamplingConfig, Size3, TokenGridConfig, format_block_shape

Frames = NDArray[np.uint8]
Tokens = NDArray[np.int64]

CARRY_FRAMES = 5
"""Frames that a longer video carries over as context into its next segment."""


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


@dataclass(frozen=True)
class Segment:
    """A stretch of video the model makes in one sequence: known latent frames, then new ones."""

    known: int
    total: int

    @property
    def new(self) -> int:
        return self.total - self.known


def plan_segments(
    num_context_frames: int, num_frames: int, max_latent_frames: int, tokenizer: TokenGridConfig
) -> list[Segment]:
    """Cuts a video into segments: each after the first starts from the last five frames.

    Raises ValueError for lengths that the tokenizer cannot hold or that leave nothing to make.
    """
    factor = tokenizer.time_factor
    for what, count in (("the context", num_context_frames), ("the clip", num_frames)):
        if count % factor != 1 and not (what == "the context" and count == 0):
            raise ValueError(
                f"{what} must have 1 + {factor}n frames (1, {1 + factor}, {1 + 2 * factor}, ...), "
                f"not {count}"
            )
    if num_frames <= num_context_frames:
        raise ValueError(
            f"a context of {num_context_frames} frames leaves nothing to generate "
            f"in a clip of {num_frames}"
        )
    carried = 1 + (CARRY_FRAMES - 1) // factor
    known = 0 if num_context_frames == 0 else 1 + (num_context_frames - 1) // factor
    missing = 1 + (num_frames - 1) // factor - known
    segments: list[Segment] = []
    while missing > 0:
        if known >= max_latent_frames or segments:
            known = carried
        total = min(max_latent_frames, known + missing)
        segments.append(Segment(known, total))
        missing -= total - known
    return segments


def settings_of(
    action: str | None,
    frames_THWC: Frames | None,
    num_context_frames: int,
    num_frames: int,
    block_shape: Size3,
    sampling: SamplingConfig,
) -> dict[str, Any]:
    """What a manifest says of a request: all that is needed to repeat it, nothing that differs
    between repetitions."""
    context = None
    if frames_THWC is not None:
        digest = hashlib.sha256(np.ascontiguousarray(frames_THWC).tobytes()).hexdigest()
        context = {"num_frames": num_context_frames, "sha256": digest}
    return {
        "action": action,
        "context": context,
        "num_frames": num_frames,
        "block_shape": format_block_shape(block_shape),
        "sampling": {k: v for k, v in sampling.to_dict().items() if k != "block_shape"},
    }
