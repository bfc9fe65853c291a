"""Draws the sequences of a transformer's batches from sets of tokens.

Shapes: N clips, B batch, P prefix, t h w grid.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nbp_core.blocks.steps import sequence_plan
from nbp_core.config.models import TransformerConfig
from nbp_core.data.tokens import TokenSet
from nbp_core.train.transformer.recipe import TransformerRecipe, check_names
from nbp_core.transformer.conditions import Conditions


@dataclass(frozen=True)
class Source:
    """A token set with its condition ids and weights."""

    tokens_Nthw: NDArray[np.uint16]
    prefix_NP: Tensor | None
    frames_Nt: Tensor | None
    """Condition ids of the latent frames, for models that have them."""
    clip_weights: NDArray[np.float64]
    is_given_N: NDArray[np.bool_]
    """Whether a clip's first frame is always given, and so has no loss."""
    is_keyed: bool
    """Whether the clips have a key per latent frame."""

    @property
    def length(self) -> int:
        """Latent frames of each clip."""
        return int(self.tokens_Nthw.shape[1])

    @property
    def frame_weights(self) -> NDArray[np.float64]:
        """Weights of single frames."""
        return self.clip_weights * ~self.is_given_N


@dataclass(frozen=True)
class Batch:
    """Sequences of one length; `missing` latent frames lie between the first and the others."""

    tokens_Bthw: NDArray[np.int64]
    prefix_BP: Tensor | None
    frames_Bt: Tensor | None
    is_given_B: NDArray[np.bool_]
    is_keyed_B: NDArray[np.bool_]
    missing: int = 0

    @classmethod
    def of(cls, picked: list[tuple[Source, int]], length: int, first: int) -> Batch:
        """Sequences of `length` latent frames: of each (source, clip) the first one, and those from
        index `first` on."""
        frames = [0, *range(first, first + length - 1)]
        return cls(
            np.stack([x.tokens_Nthw[row, frames].astype(np.int64) for x, row in picked]),
            _stacked([x.prefix_NP[row] for x, row in picked if x.prefix_NP is not None]),
            _stacked([x.frames_Nt[row, frames] for x, row in picked if x.frames_Nt is not None]),
            np.array([x.is_given_N[row] for x, row in picked]),
            np.array([x.is_keyed for x, _ in picked]),
            first - 1,
        )

    @property
    def size(self) -> int:
        """Number of sequences."""
        return len(self.tokens_Bthw)

    @property
    def length(self) -> int:
        """Latent frames of each sequence."""
        return int(self.tokens_Bthw.shape[1])

    def part(self, own: slice | NDArray[np.int64]) -> Batch:
        """The sequences with these indices."""
        return replace(
            self,
            tokens_Bthw=self.tokens_Bthw[own],
            prefix_BP=None if self.prefix_BP is None else self.prefix_BP[own],
            frames_Bt=None if self.frames_Bt is None else self.frames_Bt[own],
            is_given_B=self.is_given_B[own],
            is_keyed_B=self.is_keyed_B[own],
        )

    def without_conditions(self, is_dropped_B: NDArray[np.bool_], none: int) -> Batch:
        """The batch with `none`, the id of "no condition", in place of the conditions of some
        sequences."""
        if not is_dropped_B.any():
            return self
        is_dropped_B1 = torch.from_numpy(is_dropped_B)[:, None]
        prefix, frames = (
            None if ids is None else ids.masked_fill(is_dropped_B1, none)
            for ids in (self.prefix_BP, self.frames_Bt)
        )
        return replace(self, prefix_BP=prefix, frames_Bt=frames)


class Batches:
    """The token sets that a model trains on, and how a recipe draws sequences from them."""

    def __init__(
        self,
        recipe: TransformerRecipe,
        config: TransformerConfig,
        conditions: Conditions,
        train: Mapping[str, TokenSet],
    ) -> None:
        """Raises ValueError for tokens that this model does not have, and for a recipe that does
        not suit these token sets."""
        self.recipe = recipe
        self.config = config
        self.conditions = conditions
        shares = dict(recipe.source_shares)
        looks = {look for tokens in train.values() for look in tokens.looks}
        check_names("look_weights", recipe.look_weights, sorted(looks))
        self.sources = [self.source(name, x, shares.get(name)) for name, x in train.items()]
        self.longest = self._longest()
        self._check_sequences()

    def source(self, name: str, tokens: TokenSet, share: float | None = None) -> Source:
        """A token set with its condition ids and weights. Raises ValueError for tokens that this
        model does not have."""
        self._check_tokens(name, tokens)
        recipe = self.recipe
        weights = dict(recipe.look_weights)
        of_clips = np.array([weights.get(look, 1.0) for look in tokens.looks])
        if share is not None and of_clips.any():
            of_clips *= share / of_clips.sum()
        is_given = np.isin(tokens.looks, recipe.given_looks)
        conditions, is_keyed = self._condition_ids(tokens), tokens.keys is not None
        return Source(tokens.tokens_Nthw, *conditions, of_clips, is_given, is_keyed)

    def draw(self, progress: float, batch_size: int, rng: np.random.Generator) -> Batch:
        """One batch. batch_size: number of sequences that are as long as the model's grid.

        A batch of shorter sequences holds more of them.
        """
        length = self._draw_length(progress, rng)
        first = self.draw_first(length, rng)
        count = max(1, round(batch_size * self.config.grid[0] / length))
        return Batch.of(self.draw_clips(length, first, count, rng), length, first)

    def draw_first(self, length: int, rng: np.random.Generator) -> int:
        """Index in the clips of the latent frame that is second in the sequences."""
        latest = self.longest - length + 1
        # In a later window of two latent frames the first may be given; the second has no loss.
        if length <= 2 or latest == 1 or rng.random() >= self.recipe.later_windows:
            return 1
        return int(rng.integers(2, latest + 1))

    def draw_clips(
        self, length: int, first: int, count: int, rng: np.random.Generator
    ) -> list[tuple[Source, int]]:
        """(source, clip) of each sequence, among clips that are long enough."""
        # A given frame has no loss, so as a single frame it would teach nothing.
        weights = [
            (source.clip_weights if length > 1 else source.frame_weights)
            * (source.length >= first + length - 1)
            for source in self.sources
        ]
        ends = np.cumsum([len(w) for w in weights])
        all_weights = np.concatenate(weights)
        chosen = rng.choice(len(all_weights), count, p=all_weights / all_weights.sum())
        sources = np.searchsorted(ends, chosen, side="right")
        rows = chosen - (ends - [len(w) for w in weights])[sources]
        return [(self.sources[source], int(row)) for source, row in zip(sources, rows, strict=True)]

    def _draw_length(self, progress: float, rng: np.random.Generator) -> int:
        """Number of latent frames of a batch's sequences."""
        early, late = np.array(self.recipe.early_lengths), np.array(self.recipe.late_lengths)
        lengths = self._allowed(early + progress * (late - early))
        return 1 + int(rng.choice(len(lengths), p=lengths / lengths.sum()))

    def _allowed(self, lengths: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shares of lengths, 0 of those that no clip has."""
        lengths[self.longest :] = 0.0
        if not any(source.frame_weights.any() for source in self.sources):
            lengths[0] = 0.0
        return lengths

    def _longest(self) -> int:
        """Latent frames of the longest clips that are drawn. Raises ValueError if none is."""
        drawn = [source.length for source in self.sources if source.clip_weights.any()]
        if not drawn:
            raise ValueError("look_weights and source_shares leave no clip to train on")
        return max(drawn)

    def _check_sequences(self) -> None:
        """Raises ValueError for lengths that no clip has, and for blocks that do not tile one."""
        recipe, lengths = self.recipe, set()
        for name in ("early_lengths", "late_lengths"):
            drawn = np.flatnonzero(self._allowed(np.array(getattr(recipe, name))))
            if not drawn.size:
                raise ValueError(
                    f"{name} gives no weight to a length that these clips allow: they have at most "
                    f"{self.longest} latent frames, and a first one without loss is no sequence"
                )
            lengths |= {int(number) + 1 for number in drawn}
        for shape, weight in zip(recipe.shapes, recipe.shape_weights, strict=True):
            for length in sorted(lengths) if weight else ():
                sequence_plan(self.config, shape, length)

    def _check_tokens(self, name: str, tokens: TokenSet) -> None:
        config, found = self.config, tokens.tokens_Nthw
        if found.ndim != 4 or found.shape[2:] != config.grid[1:]:
            shapes = " x ".join(map(str, found.shape[2:])), " x ".join(map(str, config.grid[1:]))
            raise ValueError(
                f"the tokens of {name!r} are a grid of {shapes[0]} and those of model "
                f"{config.name!r} one of {shapes[1]}"
            )
        is_whole = found.dtype.kind in "iu"
        if found.size and not (is_whole and 0 <= found.min() <= found.max() < config.codebook_size):
            raise ValueError(
                f"the tokens of {name!r} are not all codes from 0 to {config.codebook_size - 1:,}: "
                "delete their folder, so that the clips are encoded again"
            )

    def _condition_ids(self, tokens: TokenSet) -> tuple[Tensor | None, Tensor | None]:
        """Condition ids of each clip: (N, P) of the prefix and (N, t) of the latent frames; None
        for those that the model does not have."""
        config, known = self.config, self.conditions
        if config.prefix_len == 0:
            return None, None
        if not config.frame_conditions:
            if tokens.keys is not None:
                raise ValueError(f"model {config.name!r} has no conditions per latent frame")
            ids = {name: known.ids(name, 1.0)[0] for name in set(tokens.actions)}
            return torch.cat([cast(Tensor, ids[action]) for action in tokens.actions]), None
        rows = [[known.id(name) for name in tokens.conditions(i)] for i in range(len(tokens))]
        frames_Nt = torch.tensor(rows)
        return frames_Nt[:, :1], frames_Nt


def _stacked(rows: list[Tensor]) -> Tensor | None:
    return torch.stack(rows) if rows else None
