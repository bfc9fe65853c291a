"""Trains a BlockTransformer on tokens.

Shapes: N clips, B batch, t h w grid, L positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nbp_core.blocks.sequences import SequenceLayout, sequence_layout
from nbp_core.checkpoint import load_config, load_weights
from nbp_core.config.json import JsonConfig
from nbp_core.config.models import TransformerConfig
from nbp_core.config.shapes import FIGURE6_SHAPES, Size3, format_block_shape
from nbp_core.data.tokens import PHOTO_LOOK, TokenSet
from nbp_core.train.compute import step_tflop
from nbp_core.train.growth import grown
from nbp_core.train.loop.task import Part, Task, compile_parts, spaced
from nbp_core.train.loop.trainer import TrainConfig, Trainer, TrainStep, new_accelerator
from nbp_core.train.losses.losses import token_loss
from nbp_core.transformer.conditions import Conditions
from nbp_core.transformer.layer import Layer
from nbp_core.transformer.model import BlockTransformer


@dataclass(frozen=True, kw_only=True, slots=True)
class TransformerRecipe(JsonConfig):
    """What a batch is made of. A batch is of one block shape and one length."""

    shapes: tuple[Size3, ...] = FIGURE6_SHAPES
    shape_weights: tuple[float, ...] = (0.13, 0.13, 0.35, 0.13, 0.13, 0.13)
    early_lengths: tuple[float, ...] = (0.3, 0.4, 0.0, 0.0, 0.3)
    """Share of batches with 1, 2, ... latent frames at the start of the run; a batch of shorter
    clips holds more of them, so that every step costs about the same."""
    late_lengths: tuple[float, ...] = (0.1, 0.2, 0.0, 0.0, 0.7)
    """The same at its end; in between the shares move from one to the other."""
    condition_dropout: float = 0.1
    look_weights: tuple[tuple[str, float], ...] = ()
    """Relative weight of clips by look; a look that is not named weighs 1."""
    given_looks: tuple[str, ...] = (PHOTO_LOOK,)
    """Looks of clips that nothing but a first frame starts: it is not learned to be made up."""
    num_validation_clips: int = 16

    def __post_init__(self) -> None:
        if len(self.shapes) != len(self.shape_weights):
            raise ValueError(
                f"{len(self.shapes)} block shapes need as many weights, not "
                f"{len(self.shape_weights)}"
            )

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
        train: TokenSet,
        val: TokenSet,
        *,
        batch_size: int,
        seed: int,
        prompts: Path | None = None,
    ) -> None:
        self.model = model
        self.conditions = Conditions(model.config, prompts)
        if self.conditions.is_text and recipe.condition_dropout:
            raise ValueError(
                "a model with class prompts has no token for 'no condition' to drop to"
            )
        self.recipe = recipe
        self.train = train
        self.batch_size = batch_size
        self.seed = seed
        self.device = next(model.parameters()).device
        self.train_ids = self._condition_ids(train)
        self.val_ids = self._condition_ids(val)
        self.val_rows = spaced(len(val), recipe.num_validation_clips)
        self.val = val
        weights = dict(recipe.look_weights)
        of_clips = np.array([weights.get(look, 1.0) for look in train.looks])
        self.clip_weights = of_clips / of_clips.sum()
        # Of single frames, those that are given teach nothing.
        of_frames = of_clips * ~self._is_given(train, np.arange(len(train)))
        self.frame_weights = of_frames / (of_frames.sum() or 1.0)

    def _is_given(self, clips: TokenSet, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(B,), whether a clip's first frame is one that a generation is given."""
        return np.isin([clips.looks[row] for row in rows], self.recipe.given_looks)

    def _condition_ids(self, tokens: TokenSet) -> Tensor | None:
        """Ids (N, P) of each clip's action, or None for a model without conditions."""
        known = {name: self.conditions.ids(name, 1, 1.0)[0] for name in set(tokens.actions)}
        ids = [known[action] for action in tokens.actions]
        return None if self.model.config.prefix_len == 0 else torch.cat(cast(list[Tensor], ids))

    def loss(self, step: int, progress: float, part: Part) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([self.seed, step])
        recipe, config = self.recipe, self.model.config
        shape = recipe.shapes[int(rng.choice(len(recipe.shapes), p=recipe.shape_shares))]
        early, late = np.array(recipe.early_lengths), np.array(recipe.late_lengths)
        lengths = early + progress * (late - early)
        if not self.frame_weights.any():
            lengths[0] = 0.0
        length = 1 + int(rng.choice(len(lengths), p=lengths / lengths.sum()))
        count = round(self.batch_size * config.grid[0] / length)
        weights = self.clip_weights if length > 1 else self.frame_weights
        rows = rng.choice(len(self.train), count, p=weights)
        dropped = rng.random(count) < recipe.condition_dropout
        layout = sequence_layout(config, shape, length)
        loss = self._clip_loss(
            self.train, self.train_ids, rows[part.own], layout, dropped[part.own]
        )
        return loss * self._weight(part, rows, layout), {
            "block_len": float(np.prod(shape)),
            "latent_frames": float(length),
            "tflop": step_tflop(self.model, layout, count),
        }

    def _weight(self, part: Part, rows: NDArray[np.int64], layout: SequenceLayout) -> float:
        """What turns a part's mean into its share of the mean over all tokens of the batch."""
        rest = 1 - self._is_given(self.train, rows) / layout.blocks.grid[0]
        return float(rest[part.own].sum() * part.count / rest.sum())

    def _clip_loss(
        self,
        clips: TokenSet,
        ids_NP: Tensor | None,
        rows: NDArray[np.int64],
        layout: SequenceLayout,
        dropped: np.ndarray | None = None,
    ) -> Tensor:
        """Loss of the next block everywhere, but for first frames that are given."""
        config = self.model.config
        tokens_Nthw = clips.tokens_Nthw[rows, : layout.blocks.grid[0]].astype(np.int64)
        tokens = torch.from_numpy(tokens_Nthw).to(self.device)
        conditions = None
        if ids_NP is not None:
            conditions = ids_NP[rows]
            if dropped is not None and dropped.any():
                conditions[dropped] = config.first_condition_id + config.num_conditions - 1
            conditions = conditions.to(self.device)
        ids = layout.input_ids(tokens, conditions)
        # Conditions predict nothing; every later position predicts a video token.
        skip = layout.prefix_len
        targets = layout.targets(tokens)[:, skip:]
        is_first_L = layout.target_L[skip:] < layout.blocks.num_tokens // layout.blocks.grid[0]
        is_given_B = torch.from_numpy(self._is_given(clips, rows))
        is_asked = ~(is_given_B[:, None] & is_first_L).to(self.device)
        features = self.model.features(ids, layout)[:, skip:][is_asked]
        return token_loss(self.model.video_logits(features)[None], targets[is_asked][None])

    def validate(self) -> dict[str, float]:
        """Loss a token on whole validation clips, for each block shape."""
        figures = {}
        for shape in self.recipe.shapes:
            layout = sequence_layout(self.model.config, shape)
            parts = [
                self._clip_loss(self.val, self.val_ids, rows, layout)
                for rows in np.array_split(self.val_rows, max(1, len(self.val_rows) // 8))
            ]
            figures[format_block_shape(shape)] = float(torch.stack(parts).mean())
        return figures


def train_transformer(
    config: TransformerConfig,
    recipe: TransformerRecipe,
    train_config: TrainConfig,
    run_folder: Path,
    train: TokenSet,
    val: TokenSet,
    tokenizer: dict[str, str],
    device: str = "cpu",
    start_from: Path | None = None,
    prompts: Path | None = None,
) -> Iterator[TrainStep]:
    """Trains, or goes on with, the run in `run_folder`; leaves the averaged model in its model/.

    tokenizer: how the model's config.json will name the tokenizer of these tokens.
    start_from: a model folder whose weights are the first ones, grown if they are of a smaller
        model (growth.py); else random.
    prompts: folder with the text tokenizer of a model whose conditions are class prompts.
    """
    accelerator = new_accelerator(device, train_config.accumulate)
    torch.manual_seed(train_config.seed)
    model = BlockTransformer(config) if start_from is None else _first_weights(config, start_from)
    model = model.to(accelerator.device)
    compile_parts(model, Layer)
    task = TransformerTask(
        model,
        recipe,
        train,
        val,
        batch_size=train_config.batch_size,
        seed=train_config.seed,
        prompts=prompts,
    )
    trainer = Trainer(task, train_config, run_folder, accelerator)
    yield from trainer.run()
    trainer.save_model("transformer", config, tokenizer=tokenizer)


def _first_weights(config: TransformerConfig, folder: Path) -> BlockTransformer:
    known = load_config(folder, TransformerConfig)
    sizes = (known.num_layers, known.width, known.aimed)
    if sizes != (config.num_layers, config.width, config.aimed):
        return grown(BlockTransformer.from_pretrained(folder), config)
    model = BlockTransformer(config)
    load_weights(model, folder)
    return model
