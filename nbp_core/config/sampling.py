"""SamplingConfig: how logits become tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, ClassVar, Self

from nbp_core.config.json import JsonConfig
from nbp_core.config.shapes import Size3, check_sides, parse_block_shape

METHODS = ("paper", "shared-noise")
"""Ways to draw the tokens of a block: the paper's, and one with equal noise in all latent frames
(sampling/shared_noise.py)."""
MAX_TOP_K = 2**31
"""Above any codebook: filters nothing."""
LEAST = 1e-6
"""Least temperature above 0, and least top-p: float32 cannot divide by, or tell apart, less."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig(JsonConfig):
    """How logits become tokens. The defaults are the paper's.

    Raises ValueError for a setting out of range.
    """

    block_shape: Size3 | None = None
    """Block shape (t, h, w); None is the model's own."""
    temperature: float = 1.0
    """Divides the logits, LEAST to 10; 0 is argmax."""
    top_k: int = 16_000
    """Number of likeliest codes to sample among, at most the codebook size."""
    top_p: float = 0.9
    """Samples among the fewest likeliest codes whose probabilities sum to this, LEAST to 1."""
    guidance_scale: float | None = None
    """Classifier-free guidance (arXiv 2207.12598), 0 to 30; 1 is off. None is the default: 1 for a
    clip, the model's `key_guidance` for a play."""
    seed: int = 0
    """Seed of the random numbers, 0 to 2^63 - 1."""
    method: str = "paper"
    """How the tokens of a block are drawn, one of METHODS."""
    FORMER: ClassVar = frozenset({"strength"})

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {self.method!r}")
        if self.block_shape is not None:
            check_sides("block shape", self.block_shape)
        if not 0 <= self.temperature <= 10:
            raise ValueError(f"temperature must be between 0 and 10, not {self.temperature:g}")
        if 0 < self.temperature < LEAST:
            raise ValueError(
                f"temperature must be 0 or at least {LEAST:g}, not {self.temperature:g}"
            )
        for name in ("top_k", "seed"):
            if not isinstance(value := getattr(self, name), Integral):
                raise ValueError(f"{name} must be a whole number, not {value!r:.40}")
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {self.top_k}")
        if self.top_k > MAX_TOP_K:
            raise ValueError(f"top_k must be at most {MAX_TOP_K:,}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p:g}")
        if self.top_p < LEAST:
            raise ValueError(f"top_p must be at least {LEAST:g}, not {self.top_p:g}")
        if not 0 <= self.guidance <= 30:
            raise ValueError(f"guidance_scale must be between 0 and 30, not {self.guidance:g}")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be a whole number from 0 to 2^63 - 1, not {self.seed}")

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any]) -> Self:
        """The settings of a clip. Raises ValueError, KeyError, TypeError or AttributeError for a
        manifest without them."""
        shape = parse_block_shape(manifest["block_shape"])
        return cls.from_dict({**manifest["sampling"], "block_shape": shape})

    def for_manifest(self) -> dict[str, Any]:
        """The settings as JSON, but for the block shape, which manifests name beside them."""
        return {key: value for key, value in self.to_dict().items() if key != "block_shape"}

    @property
    def guidance(self) -> float:
        """The guidance scale, 1 if none is set."""
        return 1.0 if self.guidance_scale is None else self.guidance_scale

    def guided(self, usual: float) -> Self:
        """The same settings with a guidance scale: `usual` if none is set."""
        return self if self.guidance_scale is not None else replace(self, guidance_scale=usual)
