"""TransformerRecipe: which sequences a transformer trains on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from nbp_core.blocks.steps import sequence_plan
from nbp_core.config.json import MOST, JsonConfig, check_range, check_shares
from nbp_core.config.models import TransformerConfig
from nbp_core.config.shapes import FIGURE6_SHAPES, Size3
from nbp_core.data.arm_keys import ARM_LOOKS
from nbp_core.data.camera_keys import PANORAMA_LOOK
from nbp_core.data.camera_moves import PHOTO_LOOK

SOURCES = ("clips", "camera-keys", "look-around", "arm-keys")
CLIPS_SOURCE, PHOTO_SOURCE, PANORAMA_SOURCE, ARM_SOURCE = SOURCES
GIVEN_LOOKS = (PHOTO_LOOK, PANORAMA_LOOK, *ARM_LOOKS)
"""Looks of clips from photographs and of an arm moved by keys."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerRecipe(JsonConfig):
    """The sequences of a batch. All of them have one block shape and one length."""

    shapes: tuple[Size3, ...] = FIGURE6_SHAPES
    shape_weights: tuple[float, ...] = (0.13, 0.13, 0.35, 0.13, 0.13, 0.13)
    early_lengths: tuple[float, ...] = (0.3, 0.4, 0.0, 0.0, 0.3)
    """Share of batches with 1, 2, ... latent frames at the start of the run. A batch of shorter
    clips holds more of them, so that every step costs about the same."""
    late_lengths: tuple[float, ...] = (0.1, 0.2, 0.0, 0.0, 0.7)
    """The same shares at the end of the run; in between they are interpolated."""
    condition_dropout: float = 0.1
    """Share of sequences whose condition is replaced by 'no condition', for guidance."""
    source_shares: tuple[tuple[str, float], ...] = ()
    """Share of the sequences from each named token set, among sets with long enough clips. Name all
    sets or none: a set without a share counts by its number of clips."""
    later_windows: float = 0.0
    """Share of batches whose sequences are the first latent frame (the anchor) and a window from
    anywhere later in the clip, as in a long play. Only for clips longer than the sequences."""
    context_noise: float = 0.0
    """Largest share of wrong tokens in the context; each sequence draws its own (noise.py)."""
    own_draws: float = 0.0
    """Share of batches in which the model's own draws stand in the context of clips with keys, as
    in a play, while the clip's own tokens stay the targets. Each token is drawn in one pass from
    the clip's real context (parallel scheduled sampling, arXiv 1906.04331)."""
    still_weight: float = 1.0
    """Loss weight of a token that equals the one at its place in the latent frame before; others
    have weight 1. Where most patches stand still, a small weight lets the moving ones decide.
    Validation always weighs all tokens alike."""
    look_weights: tuple[tuple[str, float], ...] = ()
    """How often clips of a look are drawn, relative to others; looks not named have weight 1."""
    given_looks: tuple[str, ...] = GIVEN_LOOKS
    """Looks whose clips always start from a given first frame, which therefore has no loss."""
    num_validation_clips: int = 16

    def __post_init__(self) -> None:
        if len(self.shapes) != len(self.shape_weights):
            raise ValueError(
                f"{len(self.shapes)} block shapes need as many weights, not "
                f"{len(self.shape_weights)}"
            )
        check_shares(self, "shape_weights", "early_lengths", "late_lengths")
        if len(self.early_lengths) != len(self.late_lengths):
            raise ValueError("early_lengths and late_lengths must be equally long")
        check_range(self, 0, 1, "condition_dropout", "later_windows", "context_noise")
        check_range(self, 0, 1, "own_draws", "still_weight")
        check_range(self, 1, MOST, "num_validation_clips")
        for name in ("source_shares", "look_weights"):
            if not all(0 <= weight <= MOST for _, weight in getattr(self, name)):
                raise ValueError(f"every number of {name} must be at least 0 and at most {MOST:,}")

    def check_blocks(self, config: TransformerConfig, length: int) -> None:
        """Raises ValueError for blocks that do not tile clips of this length or the sequences that
        are drawn from them, before clips are encoded.

        Settings that name looks or sources decide whether single frames are drawn, so with these
        they are not checked here.
        """
        lengths = {
            number
            for shares in (self.early_lengths, self.late_lengths)
            for number, share in enumerate(shares[:length], 1)
            if share
        }
        if self.look_weights or self.source_shares or not set(self.given_looks) <= {*GIVEN_LOOKS}:
            lengths.discard(1)
        for shape, weight in zip(self.shapes, self.shape_weights, strict=True):
            for number in (length, *sorted(lengths if weight else ())):
                sequence_plan(config, shape, number)

    @property
    def shape_shares(self) -> list[float]:
        """Share of batches with each block shape."""
        return [weight / sum(self.shape_weights) for weight in self.shape_weights]


def check_names(setting: str, named: Iterable[tuple[str, float]], known: Sequence[str]) -> None:
    """Raises ValueError for a name of a setting that is not among the known ones."""
    for name, _ in named:
        if name not in known:
            names = ", ".join(map(repr, known))
            raise ValueError(f"{setting} names {name!r}, not one of {names}")
