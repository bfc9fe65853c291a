"""Trains a BlockTransformer on tokens.

Shapes: N clips, B batch, t h w grid, L positions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nbp_core.blocks.sequences import SequenceLayout, sequence_layout
from nbp_core.blocks.steps import sequence_plan
from nbp_core.config.description import load_config
from nbp_core.config.json import MOST, JsonConfig, check_range, check_shares
from nbp_core.config.models import TransformerConfig
from nbp_core.config.shapes import FIGURE6_SHAPES, Size3, format_block_shape
from nbp_core.data.arm_keys import ARM_LOOKS
from nbp_core.data.camera_keys import PANORAMA_LOOK
from nbp_core.data.camera_moves import PHOTO_LOOK
from nbp_core.data.sources import check_actions
from nbp_core.data.tokens import TokenSet
from nbp_core.train.compute import step_tflop
from nbp_core.train.growth import fit_weights, grown, reconditioned
from nbp_core.train.loop.compiling import compile_parts, pays_to_compile
from nbp_core.train.loop.task import Part, Task, spaced
from nbp_core.train.loop.trainer import TrainConfig, Trainer, TrainStep, new_accelerator
from nbp_core.train.losses.losses import token_loss
from nbp_core.train.noise import noisy_tokens
from nbp_core.transformer.conditions import Conditions
from nbp_core.transformer.layer import Layer
from nbp_core.transformer.model import BlockTransformer

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


class TransformerTask(Task):
    """Cross-entropy of the next block, for a block shape drawn each step."""

    model: BlockTransformer

    def __init__(
        self,
        model: BlockTransformer,
        recipe: TransformerRecipe,
        train: TokenSets,
        val: TokenSets,
        *,
        batch_size: int,
        seed: int,
        prompts: Path | None = None,
        levels: tuple[int, ...] = (),
    ) -> None:
        """prompts: folder with the text tokenizer, for class prompts. levels: FSQ levels of the
        codebook, needed for context_noise."""
        self.model = model
        self.conditions = Conditions(model.config, prompts)
        if self.conditions.is_text and recipe.condition_dropout:
            raise ValueError(
                "a model with class prompts cannot go without them: condition_dropout must be 0"
            )
        if recipe.context_noise and not levels:
            raise ValueError("context_noise needs the levels of the codebook")
        self.recipe = recipe
        self.batch_size = batch_size
        self.seed = seed
        self.levels = levels
        self.device = next(model.parameters()).device
        shares = dict(recipe.source_shares)
        looks = {look for tokens in _named(train).values() for look in tokens.looks}
        check_names("look_weights", recipe.look_weights, sorted(looks))
        for name, tokens in (*_named(train).items(), *_named(val).items()):
            self._check_tokens(name, tokens)
        self.train = [self._source(x, shares.get(name)) for name, x in _named(train).items()]
        self.val = {name: self._source(x, None) for name, x in _named(val).items()}
        self.longest = self._longest()
        self._check_sequences()

    def _check_tokens(self, name: str, tokens: TokenSet) -> None:
        """Raises ValueError for tokens that are none of this model."""
        config, found = self.model.config, tokens.tokens_Nthw
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

    def _longest(self) -> int:
        """Latent frames of the longest clips that are drawn. Raises ValueError if none is."""
        drawn: list[int] = [x.tokens_Nthw.shape[1] for x in self.train if x.clip_weights.any()]
        if not drawn:
            raise ValueError("look_weights and source_shares leave no clip to train on")
        return max(drawn)

    def _check_sequences(self) -> None:
        """Raises ValueError for lengths that no clip has, and for blocks that do not tile one."""
        recipe, config = self.recipe, self.model.config
        lengths = set()
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
                sequence_plan(config, shape, length)
        for name, source in self.val.items():
            for shape in self._validation_shapes(name, source):
                sequence_plan(config, shape, _validation_length(source))

    def _source(self, tokens: TokenSet, share: float | None) -> _Source:
        recipe = self.recipe
        weights = dict(recipe.look_weights)
        of_clips = np.array([weights.get(look, 1.0) for look in tokens.looks])
        if share is not None and of_clips.any():
            of_clips *= share / of_clips.sum()
        is_given = np.isin(tokens.looks, recipe.given_looks)
        conditions, is_keyed = self._condition_ids(tokens), tokens.keys is not None
        return _Source(tokens.tokens_Nthw, *conditions, of_clips, is_given, is_keyed)

    def _condition_ids(self, tokens: TokenSet) -> tuple[Tensor | None, Tensor | None]:
        """Condition ids of each clip: (N, P) of the prefix and (N, t) of the latent frames; None
        for those that the model does not have."""
        config, known = self.model.config, self.conditions
        if config.prefix_len == 0:
            return None, None
        if not config.frame_conditions:
            if tokens.keys is not None:
                raise ValueError(f"model {config.name!r} has no conditions per latent frame")
            ids = {name: known.ids(name, 1, 1.0)[0] for name in set(tokens.actions)}
            return torch.cat([cast(Tensor, ids[action]) for action in tokens.actions]), None
        rows = [[known.id(name) for name in tokens.conditions(i)] for i in range(len(tokens))]
        frames_Nt = torch.tensor(rows)
        return frames_Nt[:, :1], frames_Nt

    def loss(self, step: int, progress: float, part: Part) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([self.seed, step])
        recipe, config = self.recipe, self.model.config
        shape = recipe.shapes[int(rng.choice(len(recipe.shapes), p=recipe.shape_shares))]
        length = self._draw_length(progress, rng)
        first = self._draw_first(length, rng)
        count = max(1, round(self.batch_size * config.grid[0] / length))
        rows = self._draw_rows(length, first, count, rng)
        layout = sequence_layout(config, shape, length)
        batch = self._batch(rows, length, first)
        batch = self._without_conditions(batch, rng.random(count) < recipe.condition_dropout)
        seen_Bthw = batch.tokens_Bthw
        if recipe.context_noise:
            seen_Bthw = noisy_tokens(seen_Bthw, recipe.context_noise, self.levels, rng)
        # A process without a sequence of its own computes one, whose weight is 0.
        here = part.own if part.index < count else slice(0, 1)
        own, own_seen = batch.part(here), seen_Bthw[here]
        if length > 1 and rng.random() < recipe.own_draws:
            own_seen = self._with_own_draws(own, layout, own_seen, rng)
        loss = self._clip_loss(own, layout, own_seen, is_weighted=True)
        return loss * self._weight(part, batch), {
            "block_len": float(np.prod(shape)),
            "latent_frames": float(length),
            "tflop": step_tflop(self.model, layout, count),
        }

    def _draw_length(self, progress: float, rng: np.random.Generator) -> int:
        """Number of latent frames of a batch's sequences."""
        early, late = np.array(self.recipe.early_lengths), np.array(self.recipe.late_lengths)
        lengths = self._allowed(early + progress * (late - early))
        return 1 + int(rng.choice(len(lengths), p=lengths / lengths.sum()))

    def _allowed(self, lengths: NDArray[np.float64]) -> NDArray[np.float64]:
        """Shares of lengths, 0 of those that no clip has."""
        lengths[self.longest :] = 0.0
        if not any(source.frame_weights.any() for source in self.train):
            lengths[0] = 0.0
        return lengths

    def _draw_first(self, length: int, rng: np.random.Generator) -> int:
        """Index in the clips of the latent frame that is second in the sequences."""
        latest = self.longest - length + 1
        # In a later window of two latent frames the first may be given; the second has no loss.
        if length <= 2 or latest == 1 or rng.random() >= self.recipe.later_windows:
            return 1
        return int(rng.integers(2, latest + 1))

    def _draw_rows(
        self, length: int, first: int, count: int, rng: np.random.Generator
    ) -> list[tuple[_Source, int]]:
        """(source, clip) of each sequence, among clips that are long enough."""
        # A given frame has no loss, so as a single frame it would teach nothing.
        weights = [
            (source.clip_weights if length > 1 else source.frame_weights)
            * (source.tokens_Nthw.shape[1] >= first + length - 1)
            for source in self.train
        ]
        ends = np.cumsum([len(w) for w in weights])
        all_weights = np.concatenate(weights)
        chosen = rng.choice(len(all_weights), count, p=all_weights / all_weights.sum())
        sources = np.searchsorted(ends, chosen, side="right")
        rows = chosen - (ends - [len(w) for w in weights])[sources]
        return [(self.train[source], int(row)) for source, row in zip(sources, rows, strict=True)]

    def _batch(self, picked: list[tuple[_Source, int]], length: int, first: int) -> _Batch:
        frames = [0, *range(first, first + length - 1)]
        return _Batch(
            np.stack([x.tokens_Nthw[row, frames].astype(np.int64) for x, row in picked]),
            _stacked([x.prefix_NP[row] for x, row in picked if x.prefix_NP is not None]),
            _stacked([x.frames_Nt[row, frames] for x, row in picked if x.frames_Nt is not None]),
            np.array([x.is_given_N[row] for x, row in picked]),
            np.array([x.is_keyed for x, _ in picked]),
            first - 1,
        )

    def _weight(self, part: Part, batch: _Batch) -> float:
        """The factor from a part's mean loss to its share of the mean over all of the batch."""
        frames_B = batch.tokens_Bthw.shape[1] - batch.is_given_B - bool(batch.missing)
        return float(frames_B[part.own].sum() * part.count / frames_B.sum())

    def _clip_loss(
        self,
        batch: _Batch,
        layout: SequenceLayout,
        seen_Bthw: NDArray[np.int64] | None = None,
        is_weighted: bool = False,
    ) -> Tensor:
        """Cross-entropy of the next block, in nats per token that is asked.

        seen_Bthw: the context's tokens, by default the clips' own. is_weighted: applies the
        recipe's still_weight.
        """
        tokens = torch.from_numpy(batch.tokens_Bthw).to(self.device)
        seen = tokens if seen_Bthw is None else torch.from_numpy(seen_Bthw).to(self.device)
        skip = layout.prefix_len
        targets = layout.targets(tokens)[:, skip:]
        is_asked = self._is_asked(batch, layout)
        asked = self._features(batch, layout, seen)[is_asked]
        logits = self.model.video_logits(asked)[None]
        if not is_weighted or self.recipe.still_weight == 1:
            return token_loss(logits, targets[is_asked][None])
        weights = layout.targets(_still_weights(tokens, self.recipe.still_weight))[:, skip:]
        return token_loss(logits, targets[is_asked][None], weights_BM=weights[is_asked][None])

    def _is_asked(self, batch: _Batch, layout: SequenceLayout) -> Tensor:
        """(B, M): whether a token has a loss.

        Given first frames have none, nor has the first latent frame of a later window, since the
        frames before it are missing.
        """
        frame_L = layout.target_frame_L[layout.prefix_len :]
        is_given_B = torch.from_numpy(batch.is_given_B)
        is_asked = ~(is_given_B[:, None] & (frame_L == 0)).to(self.device)
        if batch.missing:
            is_asked &= (frame_L != 1).to(self.device)
        return is_asked

    def _features(self, batch: _Batch, layout: SequenceLayout, seen_Bthw: Tensor) -> Tensor:
        """Final hidden states (B, M, D) of all positions that predict a token."""
        prefix, frames = (
            None if ids is None else ids.to(self.device)
            for ids in (batch.prefix_BP, batch.frames_Bt)
        )
        ids = layout.input_ids(seen_Bthw, prefix)
        inputs = self.model.position_inputs(layout, batch.missing)
        features = self.model.features(ids, layout, inputs=inputs, conditions_Bt=frames)
        # Conditions predict nothing; every later position predicts a video token.
        return features[:, layout.prefix_len :]

    def _without_conditions(self, batch: _Batch, is_dropped_B: NDArray[np.bool_]) -> _Batch:
        """The batch with "no condition" in place of the conditions of some sequences."""
        if not is_dropped_B.any():
            return batch
        config = self.model.config
        none = config.first_condition_id + config.num_conditions - 1
        is_dropped_B1 = torch.from_numpy(is_dropped_B)[:, None]
        prefix, frames = (
            None if ids is None else ids.masked_fill(is_dropped_B1, none)
            for ids in (batch.prefix_BP, batch.frames_Bt)
        )
        return replace(batch, prefix_BP=prefix, frames_Bt=frames)

    def _with_own_draws(
        self,
        batch: _Batch,
        layout: SequenceLayout,
        seen_Bthw: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """seen_Bthw with some latent frames of clips with keys replaced by the model's draws.

        In half of the clips all frames except the given ones are replaced, as in a play. In the
        others a random share is.
        """
        count, length = seen_Bthw.shape[:2]
        shares_B = np.where(rng.random(count) < 0.5, 1.0, rng.random(count))
        is_drawn_Bt = rng.random((count, length)) < shares_B[:, None]
        is_drawn_Bt[~batch.is_keyed_B] = False
        is_drawn_Bt[:, : 2 if batch.missing else 1] = False
        here = np.flatnonzero(is_drawn_Bt.any(1))
        if not here.size:
            return seen_Bthw
        drawn = self._draw(batch.part(here), layout, seen_Bthw[here], rng)
        mixed = seen_Bthw.copy()
        mixed[here] = np.where(is_drawn_Bt[here][..., None, None], drawn, seen_Bthw[here])
        return mixed

    @torch.no_grad()
    def _draw(
        self,
        batch: _Batch,
        layout: SequenceLayout,
        seen_Bthw: NDArray[np.int64],
        rng: np.random.Generator,
    ) -> NDArray[np.int64]:
        """Draws every token once, each from its context in seen_Bthw."""
        temperature = rng.uniform(*DRAW_TEMPERATURES)
        seen = torch.from_numpy(seen_Bthw).to(self.device)
        features = self._features(batch, layout, seen)
        places = layout.target_place_L[layout.prefix_len :].to(self.device)
        drawn = seen.flatten(1).clone()
        for start in range(0, len(places), DRAW_CHUNK):
            here = slice(start, start + DRAW_CHUNK)
            logits = self.model.video_logits(features[:, here]).float() / temperature
            sums = logits.softmax(-1).cumsum(-1)
            points = torch.rand_like(sums[..., :1]) * sums[..., -1:]
            drawn[:, places[here]] = torch.searchsorted(sums, points)[..., 0]
        return drawn.view_as(seen).cpu().numpy()

    def validate(self) -> dict[str, float]:
        """Loss in nats per token on whole validation clips.

        Clips with actions are measured in each block shape. Clips with keys are measured in the
        model's own block shape, with and without their keys.
        """
        figures = {}
        for name, source in self.val.items():
            shapes = self._validation_shapes(name, source)
            if source.frames_Nt is None or name == CLIPS_SOURCE:
                for shape in shapes:
                    figures[format_block_shape(shape)] = self._source_loss(source, shape)
            else:
                (shape,) = shapes
                figures[name] = self._source_loss(source, shape)
                figures[f"{name}_without"] = self._source_loss(source, shape, drop=True)
        return figures

    def _validation_shapes(self, name: str, source: _Source) -> tuple[Size3, ...]:
        is_of_actions = source.frames_Nt is None or name == CLIPS_SOURCE
        return self.recipe.shapes if is_of_actions else (self.model.config.block_shape,)

    def _source_loss(self, source: _Source, shape: Size3, drop: bool = False) -> float:
        rows = spaced(len(source.tokens_Nthw), self.recipe.num_validation_clips)
        layout = sequence_layout(self.model.config, shape, _validation_length(source))
        length = layout.blocks.grid[0]
        total, num_tokens = 0.0, 0
        for part in np.array_split(rows, max(1, len(rows) * length // 40)):
            batch = self._batch([(source, row) for row in part], length, first=1)
            if drop:
                batch = self._without_conditions(batch, np.full(len(part), True))
            num_asked = int(self._is_asked(batch, layout).sum())
            total += num_asked * float(self._clip_loss(batch, layout))
            num_tokens += num_asked
        return total / max(1, num_tokens)


DRAW_TEMPERATURES = (0.6, 1.0)
"""Range of the temperatures of own draws: those of plays to that of clips by action."""
MOST_VALIDATED = 9
"""Largest number of latent frames of a validation clip."""
DRAW_CHUNK = 512
"""Positions whose logits are held at once."""

TokenSets = TokenSet | Mapping[str, TokenSet]
"""One set, or several by name, as in a recipe's source_shares."""
SOURCES = ("clips", "camera-keys", "look-around", "arm-keys")
CLIPS_SOURCE, PHOTO_SOURCE, PANORAMA_SOURCE, ARM_SOURCE = SOURCES


def check_names(setting: str, named: Iterable[tuple[str, float]], known: Sequence[str]) -> None:
    """Raises ValueError for a name of a setting that is not among the known ones."""
    for name, _ in named:
        if name not in known:
            names = ", ".join(map(repr, known))
            raise ValueError(f"{setting} names {name!r}, not one of {names}")


def _named(sets: TokenSets) -> Mapping[str, TokenSet]:
    return {CLIPS_SOURCE: sets} if isinstance(sets, TokenSet) else sets


@dataclass(frozen=True)
class _Source:
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
    def frame_weights(self) -> NDArray[np.float64]:
        """Weights of single frames."""
        return self.clip_weights * ~self.is_given_N


@dataclass(frozen=True)
class _Batch:
    """Sequences of one length; `missing` latent frames lie between the first and the others."""

    tokens_Bthw: NDArray[np.int64]
    prefix_BP: Tensor | None
    frames_Bt: Tensor | None
    is_given_B: NDArray[np.bool_]
    is_keyed_B: NDArray[np.bool_]
    missing: int = 0

    def part(self, own: slice | NDArray[np.int64]) -> _Batch:
        """The sequences with these indices."""
        return replace(
            self,
            tokens_Bthw=self.tokens_Bthw[own],
            prefix_BP=None if self.prefix_BP is None else self.prefix_BP[own],
            frames_Bt=None if self.frames_Bt is None else self.frames_Bt[own],
            is_given_B=self.is_given_B[own],
            is_keyed_B=self.is_keyed_B[own],
        )


def _validation_length(source: _Source) -> int:
    """Latent frames of the clips that are validated with."""
    return min(MOST_VALIDATED, int(source.tokens_Nthw.shape[1]))


def _still_weights(tokens_Bthw: Tensor, still_weight: float) -> Tensor:
    """(B, t, h, w): `still_weight` where a token repeats the latent frame before, else 1."""
    weights = torch.ones(tokens_Bthw.shape, device=tokens_Bthw.device)
    weights[:, 1:][tokens_Bthw[:, 1:] == tokens_Bthw[:, :-1]] = still_weight
    return weights


def _stacked(rows: list[Tensor]) -> Tensor | None:
    return torch.stack(rows) if rows else None


def train_transformer(
    config: TransformerConfig,
    recipe: TransformerRecipe,
    train_config: TrainConfig,
    run_folder: Path,
    train: TokenSets,
    val: TokenSets,
    tokenizer: dict[str, str],
    device: str = "cpu",
    start_from: Path | None = None,
    prompts: Path | None = None,
    levels: tuple[int, ...] = (),
) -> Iterator[TrainStep]:
    """Trains, or resumes, the run in `run_folder`; writes the averaged model to its model/.

    tokenizer: the reference to the tokenizer of these tokens, for the model's config.json.
    start_from: a model folder with the first weights, grown if the model is smaller (growth.py);
        None: random weights.
    prompts: folder with the text tokenizer of a model whose conditions are class prompts.
    levels: FSQ levels of the tokens' codebook.
    Raises ValueError for validation clips of actions without training clips, for a recipe that the
    model does not support, and for first weights that do not fit.
    """
    for name, found in _named(val).items():
        check_actions(_named(train)[name].actions, found.actions)
    accelerator = new_accelerator(device, train_config.accumulate)
    torch.manual_seed(train_config.seed)
    model = BlockTransformer(config) if start_from is None else _first_weights(config, start_from)
    model = model.to(accelerator.device)
    if pays_to_compile(accelerator.device, train_config.is_long):
        compile_parts(model, Layer)
    task = TransformerTask(
        model,
        recipe,
        train,
        val,
        batch_size=train_config.batch_size,
        seed=train_config.seed,
        prompts=prompts,
        levels=levels,
    )
    trainer = Trainer(task, train_config, run_folder, accelerator)
    yield from trainer.run()
    trainer.save_model("transformer", config, tokenizer=tokenizer)


def _first_weights(config: TransformerConfig, folder: Path) -> BlockTransformer:
    known = load_config(folder, TransformerConfig)
    start = BlockTransformer.from_pretrained(folder)
    if (known.actions, known.keys) != (config.actions, config.keys):
        start = reconditioned(start, config.actions, config.keys)
    if (known.num_layers, known.width) != (config.num_layers, config.width):
        return grown(start, config)
    model = BlockTransformer(config)
    fit_weights(model, start)
    return model
