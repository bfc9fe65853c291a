"""TransformerTask: the losses of a batch, own draws in its context, and validation.

Shapes: B batch, t h w grid, L positions, M positions that predict a token, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nbp_core.blocks.sequences import SequenceLayout, sequence_layout
from nbp_core.blocks.steps import sequence_plan
from nbp_core.config.shapes import Size3, format_block_shape
from nbp_core.data.tokens import TokenSet
from nbp_core.train.compute import step_tflop
from nbp_core.train.loop.task import Part, Task, spaced
from nbp_core.train.losses.losses import token_loss
from nbp_core.train.noise import noisy_tokens
from nbp_core.train.transformer.batches import Batch, Batches, Source
from nbp_core.train.transformer.recipe import CLIPS_SOURCE, TransformerRecipe
from nbp_core.transformer.conditions import Conditions
from nbp_core.transformer.model import BlockTransformer

DRAW_TEMPERATURES = (0.6, 1.0)
"""Range of the temperatures of own draws: those of plays to that of clips by action."""
MOST_VALIDATED = 9
"""Largest number of latent frames of a validation clip."""
DRAW_CHUNK = 512
"""Positions whose logits are held at once."""
TokenSets = TokenSet | Mapping[str, TokenSet]
"""One set, or several by name, as in a recipe's source_shares."""


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
        self.batches = Batches(recipe, model.config, self.conditions, named(train))
        self.val = {name: self.batches.source(name, x) for name, x in named(val).items()}
        for name, source in self.val.items():
            for shape in self._validation_shapes(name, source):
                sequence_plan(model.config, shape, _validation_length(source))

    def loss(self, step: int, progress: float, part: Part) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([self.seed, step])
        recipe, config = self.recipe, self.model.config
        shape = recipe.shapes[int(rng.choice(len(recipe.shapes), p=recipe.shape_shares))]
        batch = self.batches.draw(progress, self.batch_size, rng)
        layout = sequence_layout(config, shape, batch.length)
        is_dropped_B = rng.random(batch.size) < recipe.condition_dropout
        batch = batch.without_conditions(is_dropped_B, self.conditions.id(None))
        seen_Bthw = batch.tokens_Bthw
        if recipe.context_noise:
            seen_Bthw = noisy_tokens(seen_Bthw, recipe.context_noise, self.levels, rng)
        # A process without a sequence of its own computes one, whose weight is 0.
        here = part.own if part.index < batch.size else slice(0, 1)
        own, own_seen = batch.part(here), seen_Bthw[here]
        if batch.length > 1 and rng.random() < recipe.own_draws:
            own_seen = self._with_own_draws(own, layout, own_seen, rng)
        loss = self._clip_loss(own, layout, own_seen, is_weighted=True)
        return loss * self._weight(part, batch), {
            "block_len": float(np.prod(shape)),
            "latent_frames": float(batch.length),
            "tflop": step_tflop(self.model, layout, batch.size),
        }

    def _weight(self, part: Part, batch: Batch) -> float:
        """The factor from a part's mean loss to its share of the mean over all of the batch."""
        frames_B = batch.length - batch.is_given_B - bool(batch.missing)
        return float(frames_B[part.own].sum() * part.count / frames_B.sum())

    def _clip_loss(
        self,
        batch: Batch,
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

    def _is_asked(self, batch: Batch, layout: SequenceLayout) -> Tensor:
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

    def _features(self, batch: Batch, layout: SequenceLayout, seen_Bthw: Tensor) -> Tensor:
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

    def _with_own_draws(
        self,
        batch: Batch,
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
        batch: Batch,
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

    def _validation_shapes(self, name: str, source: Source) -> tuple[Size3, ...]:
        is_of_actions = source.frames_Nt is None or name == CLIPS_SOURCE
        return self.recipe.shapes if is_of_actions else (self.model.config.block_shape,)

    def _source_loss(self, source: Source, shape: Size3, drop: bool = False) -> float:
        rows = spaced(len(source.tokens_Nthw), self.recipe.num_validation_clips)
        layout = sequence_layout(self.model.config, shape, _validation_length(source))
        length = layout.blocks.grid[0]
        total, num_tokens = 0.0, 0
        for part in np.array_split(rows, max(1, len(rows) * length // 40)):
            batch = Batch.of([(source, row) for row in part], length, first=1)
            if drop:
                is_dropped_B = np.full(len(part), True)
                batch = batch.without_conditions(is_dropped_B, self.conditions.id(None))
            num_asked = int(self._is_asked(batch, layout).sum())
            total += num_asked * float(self._clip_loss(batch, layout))
            num_tokens += num_asked
        return total / max(1, num_tokens)


def named(sets: TokenSets) -> Mapping[str, TokenSet]:
    """The sets by name; a single one holds clips of actions."""
    return {CLIPS_SOURCE: sets} if isinstance(sets, TokenSet) else sets


def _validation_length(source: Source) -> int:
    """Latent frames of the clips that are validated with."""
    return min(MOST_VALIDATED, source.length)


def _still_weights(tokens_Bthw: Tensor, still_weight: float) -> Tensor:
    """(B, t, h, w): `still_weight` where a token repeats the latent frame before, else 1."""
    weights = torch.ones(tokens_Bthw.shape, device=tokens_Bthw.device)
    weights[:, 1:][tokens_Bthw[:, 1:] == tokens_Bthw[:, :-1]] = still_weight
    return weights
