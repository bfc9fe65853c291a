"""A checked request: what one run makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import Size3
from nbp_core.generation.segments import Segment


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
    manifest: dict[str, Any]
