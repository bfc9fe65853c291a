"""The request for a clip: as a caller writes it, and as the models read it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import CLIP_FRAMES, Size3, format_block_shape
from nbp_core.config.timeline import format_timeline
from nbp_core.generation.segments import Segment
from nbp_core.media.files import Frames

if TYPE_CHECKING:
    from torch import Tensor

MAX_BATCH = 16
"""Default of the largest number of clips in a batch."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateRequest:
    """A request for one clip. The page, the API, the command line and Python all use it."""

    action: str | None = None
    """A named action of the model."""
    actions: tuple[str, ...] = ()
    """In place of `action`, for models with a condition per latent frame: the action or key of each
    new latent frame (four frames). The last one holds for the rest of the clip."""
    frames_THWC: Frames | None = None
    """The known frames at the start: uint8 RGB, 1 + 4n of any size (cropped and resized)."""
    num_frames: int = CLIP_FRAMES
    """1 + 4n. A clip longer than the model's grid is continued: from the tokens of its most recent
    latent frames by a model with a window, else from its last five frames."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        if self.action is not None and self.actions:
            raise ValueError("a clip has one action or a list of actions, not both")

    @property
    def num_context_frames(self) -> int:
        """The number of known frames at the start."""
        return 0 if self.frames_THWC is None else len(self.frames_THWC)

    def with_seed_after(self, count: int) -> Self:
        """The same request with its seed plus `count`."""
        sampling = replace(self.sampling, seed=self.sampling.seed + count)
        return replace(self, sampling=sampling)

    def can_join(self, other: GenerateRequest) -> bool:
        """Whether one model can make both clips in one batch: lengths and sampling are equal, but
        for the seed."""
        return (
            self.num_frames == other.num_frames
            and self.num_context_frames == other.num_context_frames
            and replace(self.sampling, seed=0) == replace(other.sampling, seed=0)
        )

    def settings(self, block_shape: Size3) -> dict[str, Any]:
        """The manifest's entries for this request, which repeat it with this block shape."""
        context = None
        if self.frames_THWC is not None:
            digest = hashlib.sha256(np.ascontiguousarray(self.frames_THWC).tobytes()).hexdigest()
            context = {"num_frames": self.num_context_frames, "sha256": digest}
        return {
            "action": self.action,
            **({"actions": format_timeline(self.actions)} if self.actions else {}),
            "context": context,
            "num_frames": self.num_frames,
            "block_shape": format_block_shape(block_shape),
            "sampling": self.sampling.guided(1).for_manifest(),
        }


def batches(requests: Sequence[GenerateRequest], most: int = MAX_BATCH) -> Iterator[range]:
    """Groups neighbouring requests that can share a batch; yields the index range of each group.

    `most` is the largest number of clips in a batch. Raises ValueError if it is below 1.
    """
    if most < 1:
        raise ValueError(f"a batch must have at least 1 clip, not {most}")
    start = 0
    for stop in range(1, len(requests) + 1):
        is_over = stop == len(requests) or not requests[stop].can_join(requests[start])
        if is_over or stop - start == most:
            yield range(start, stop)
            start = stop


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A checked request: context pixels, condition ids, segments, and one manifest per sample.

    Shapes: B samples (or 1, if all share the context), P condition tokens, t latent frames.
    """

    num_samples: int
    context_BCTHW: Tensor | None
    conditions_BP: Tensor | None
    null_conditions_BP: Tensor | None
    frame_conditions_Bt: Tensor | None
    """Condition ids of all latent frames, if they differ within a clip."""
    segments: list[Segment]
    num_steps: int
    num_frames: int
    block_shape: Size3
    sampling: SamplingConfig
    """The settings of all samples, but for the seed."""
    seeds: tuple[int, ...]
    """One per sample."""
    manifests: tuple[dict[str, Any], ...]
    """One manifest per sample."""
