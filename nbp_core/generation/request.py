"""What a clip is asked to be, and the same in the models' own terms."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import CLIP_FRAMES, Size3, format_block_shape
from nbp_core.generation.segments import Segment
from nbp_core.media.files import Frames

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateRequest:
    """A clip as it is asked for: by the page, the API, the command line and Python alike."""

    action: str | None = None
    """A named action of the model."""
    frames_THWC: Frames | None = None
    """The known frames it begins with: uint8 RGB, 1 + 4n of any size (cropped and resized)."""
    num_frames: int = CLIP_FRAMES
    """1 + 4n; beyond the model's own length a clip is continued from its last five frames."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)

    @property
    def num_context_frames(self) -> int:
        """How many known frames it begins with."""
        return 0 if self.frames_THWC is None else len(self.frames_THWC)

    def settings(self, block_shape: Size3) -> dict[str, Any]:
        """What a manifest says of it: all that is needed to repeat it, in blocks of this shape."""
        context = None
        if self.frames_THWC is not None:
            digest = hashlib.sha256(np.ascontiguousarray(self.frames_THWC).tobytes()).hexdigest()
            context = {"num_frames": self.num_context_frames, "sha256": digest}
        return {
            "action": self.action,
            "context": context,
            "num_frames": self.num_frames,
            "block_shape": format_block_shape(block_shape),
            "sampling": {k: v for k, v in self.sampling.to_dict().items() if k != "block_shape"},
        }


@dataclass(frozen=True, kw_only=True)
class RunRequest:
    """A checked request, in the models' own terms."""

    num_samples: int
    context_BCTHW: Tensor | None
    conditions_BP: Tensor | None
    null_conditions_BP: Tensor | None
    segments: list[Segment]
    num_steps: int
    num_frames: int
    block_shape: Size3
    sampling: SamplingConfig
    manifests: tuple[dict[str, Any], ...]
    """One for each sample."""
