"""Cuts a video that is longer than the model's grid into overlapping segments."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

from nbp_core.config.models import TokenGridConfig
from nbp_core.config.timeline import MOST_NAMES

CARRY_FRAMES = 5
"""At most so many frames at the end of a segment are the context of the next one."""


@dataclass(frozen=True)
class Segment:
    """The part of a video that one sequence generates: known latent frames, then new ones."""

    known: int
    total: int
    is_over_window: bool = False
    """Whether it continues from the tokens of a window of the most recent latent frames."""

    @property
    def new(self) -> int:
        return self.total - self.known


def plan_segments(
    num_context_frames: int,
    num_frames: int,
    max_latent_frames: int,
    tokenizer: TokenGridConfig,
    has_window: bool = False,
) -> list[Segment]:
    """Cuts a video into segments.

    Each segment after the first starts from the carried latents, whose frames are encoded again.
    With a window there are at most two segments: the second continues from the tokens, for any
    length. Raises ValueError if a length is not 1 + 4n, if nothing is left to generate, if the
    video has more than MOST_NAMES latent frames, or if a model is too short to continue.
    """
    factor = tokenizer.time_factor
    for what, count in (("the context", num_context_frames), ("the clip", num_frames)):
        if what == "the context" and count == 0:
            continue
        if not isinstance(count, Integral) or count < 1 or (count - 1) % factor:
            raise ValueError(
                f"{what} must have 1 + {factor}n frames (1, {1 + factor}, {1 + 2 * factor}, ...), "
                f"not {count}"
            )
    if num_frames <= num_context_frames:
        raise ValueError(
            f"a context of {num_context_frames} frames leaves nothing to generate "
            f"in a clip of {num_frames}"
        )
    most = tokenizer.num_frames(MOST_NAMES)
    if num_frames > most:
        raise ValueError(f"a clip may have at most {most:,} frames, not {num_frames:,}")
    known = 0 if num_context_frames == 0 else 1 + (num_context_frames - 1) // factor
    latents = 1 + (num_frames - 1) // factor
    missing = latents - known
    if has_window:
        first = Segment(known, min(latents, max_latent_frames))
        rest = Segment(max(known, max_latent_frames), latents, is_over_window=True)
        return [segment for segment in (first, rest) if segment.new > 0]
    segments: list[Segment] = []
    while missing > 0:
        if known >= max_latent_frames or segments:
            known = carried_latents(tokenizer)
        total = min(max_latent_frames, known + missing)
        if total <= known:
            most = tokenizer.num_frames(max_latent_frames)
            raise ValueError(
                f"a clip of {num_frames} frames is too long: this model makes at most {most}"
                f" frame{'s' * (most != 1)} at once, too few to continue from"
            )
        segments.append(Segment(known, total))
        missing -= total - known
    return segments


def carried_latents(tokenizer: TokenGridConfig) -> int:
    """Latent frames from which a segment continues the one before: those that fit in CARRY_FRAMES
    frames, such as two of four frames each, or the first alone where each has more."""
    return 1 + (CARRY_FRAMES - 1) // tokenizer.time_factor
