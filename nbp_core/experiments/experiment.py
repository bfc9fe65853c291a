"""The parts of an experiment: its bench, its units of work, and the rows that each unit adds.

The experiments themselves are in registry.py and the modules that it imports.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import Size3, parse_block_shape
from nbp_core.evaluation.figures import Clips
from nbp_core.evaluation.judge import Judge
from nbp_core.generation.pipeline import VideoPipeline

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The model, real clips and settings of an experiment."""

    pipeline: VideoPipeline
    judge: Judge
    real: Clips
    """The held-out clips with their tokens, for losses."""
    count: int
    context_frames: int
    batch_size: int
    sampling: SamplingConfig


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A figure or table of the results: its units of work, and the function for a unit's rows."""

    title: str
    kind: str
    units: Sequence[str]
    rows: Callable[[Bench, str], Rows]
    has_baselines: bool = True
    """Whether its clips are measured, and compared with real and reconstructed ones."""
    without: Collection[str] = ()
    """Options of the command line that have no effect on it."""

    @property
    def shapes(self) -> list[Size3]:
        """The block shapes that its units name."""
        return list(map(parse_block_shape, re.findall(r"\d+x\d+x\d+", " ".join(self.units))))
