"""SamplingConfig: how logits become tokens."""

from __future__ import annotations

from dataclasses import dataclass

from nbp_core.config.json import JsonConfig
from nbp_core.config.shapes import Size3

METHODS = ("paper", "entropy", "shared-noise", "neighbours", "best-block", "second-look")
"""Ways to draw the tokens of a block: drawing.py, best_block.py, second_look.py."""


STRENGTHS = {
    "entropy": (0.0, 10.0, 1.0, False),
    "neighbours": (1.0, 16.0, 2.0, True),
    "best-block": (1.0, 16.0, 4.0, True),
    "second-look": (0.0, 1.0, 0.5, False),
}
"""Of a method whose strength can be chosen: the least, the most, its own, whether it is whole."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingConfig(JsonConfig):
    """How logits become tokens. The defaults are the paper's.

    Raises ValueError for a setting out of range.
    """

    block_shape: Size3 | None = None
    """None is the model's own."""
    temperature: float = 1.0
    """0 is argmax."""
    top_k: int = 16_000
    top_p: float = 0.9
    guidance_scale: float = 1.0
    """Classifier-free guidance; 1 is off."""
    seed: int = 0
    method: str = "paper"
    """How the tokens of a block are drawn, one of METHODS."""
    strength: float | None = None
    """Of a method that has one: the scale of `entropy`, levels a cell has of `neighbours`,
    candidates of `best-block`, share drawn again of `second-look`; None is the method's own."""

    @property
    def method_strength(self) -> float:
        """The strength chosen, else the method's own; of a method that has one."""
        return STRENGTHS[self.method][2] if self.strength is None else self.strength

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, not {self.method!r}")
        if self.strength is not None:
            self._check_strength(self.strength)
        if not 0 <= self.temperature <= 10:
            raise ValueError(f"temperature must be between 0 and 10, not {self.temperature:g}")
        if self.top_k < 1:
            raise ValueError(f"top_k must be at least 1, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, not {self.top_p:g}")
        if not 0 <= self.guidance_scale <= 30:
            raise ValueError(
                f"guidance_scale must be between 0 and 30, not {self.guidance_scale:g}"
            )
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"seed must be a whole number from 0 to 2^63 - 1, not {self.seed}")

    def _check_strength(self, strength: float) -> None:
        if self.method not in STRENGTHS:
            raise ValueError(f"method {self.method!r} has no strength to choose")
        least, most, _, is_whole = STRENGTHS[self.method]
        if not least <= strength <= most or (is_whole and strength % 1):
            kind = "a whole number" if is_whole else "a number"
            raise ValueError(
                f"the strength of {self.method!r} is {kind} from {least:g} to {most:g}, "
                f"not {strength:g}"
            )
