"""Trains an elastic BlockTransformer on tokens.

Shapes: N clips, B batch, t h w grid, L positions.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from nbp_core.checkpoint import load_weights, save_model
from nbp_core.config import FIGURE6_SHAPES, JsonConfig, Size3, TransformerConfig, format_block_shape
from nbp_core.sequences import sequence_layout
from nbp_core.train.losses import token_loss
from nbp_core.train.tokens import TokenSet
from nbp_core.train.trainer import TrainConfig, Trainer, TrainStep, compile_parts
from nbp_core.transformer import BlockTransformer, Layer


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
    num_validation_clips: int = 16


class TransformerTask:
    """Cross-entropy of the next block, for a block shape drawn each step."""

    def __init__(
        self,
        model: BlockTransformer,
        recipe: TransformerRecipe,
        train: TokenSet,
        val: TokenSet,
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        self.model = model
        self.recipe = recipe
        self.train = train
        self.batch_size = batch_size
        self.seed = seed
        self.device = next(model.parameters()).device
        self.train_ids = self._condition_ids(train)
        self.val_ids = self._condition_ids(val)
        spread = np.linspace(0, len(val) - 1, recipe.num_validation_clips).astype(int)
        self.val_rows = np.unique(spread)
        self.val = val
        weights = dict(recipe.look_weights)
        of_clips = np.array([weights.get(look, 1.0) for look in train.looks])
        self.clip_weights = of_clips / of_clips.sum()

    def _condition_ids(self, tokens: TokenSet) -> Tensor:
        config = self.model.config
        rank = {action: i for i, action in enumerate(config.actions)}
        ids = [config.first_condition_id + rank[action] for action in tokens.actions]
        return torch.tensor(ids)[:, None]

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([self.seed, step])
        recipe, config = self.recipe, self.model.config
        shape = recipe.shapes[int(rng.choice(len(recipe.shapes), p=recipe.shape_weights))]
        early, late = np.array(recipe.early_lengths), np.array(recipe.late_lengths)
        lengths = early + progress * (late - early)
        length = 1 + int(rng.choice(len(lengths), p=lengths / lengths.sum()))
        count = round(self.batch_size * config.grid[0] / length)
        rows = rng.choice(len(self.train), count, p=self.clip_weights)
        conditions = self.train_ids[rows]
        dropped = torch.from_numpy(rng.random(count) < recipe.condition_dropout)
        conditions[dropped] = config.first_condition_id + config.num_conditions - 1
        loss = self._clip_loss(self.model, self.train, rows, conditions, shape, length)
        return loss, {"block_len": float(np.prod(shape)), "latent_frames": float(length)}

    def _clip_loss(
        self,
        model: BlockTransformer,
        clips: TokenSet,
        rows: np.ndarray,
        conditions: Tensor,
        shape: Size3,
        length: int,
    ) -> Tensor:
        layout = sequence_layout(model.config, shape, length)
        tokens = torch.from_numpy(clips.tokens_Nthw[rows, :length].astype(np.int64)).to(self.device)
        ids = layout.input_ids(tokens, conditions.to(self.device))
        # Conditions predict nothing; every later position predicts a video token.
        skip = layout.prefix_len
        features = model.features(ids, layout)[:, skip:]
        return token_loss(model.video_logits(features), layout.targets(tokens)[:, skip:])

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Loss a token on whole validation clips, for each block shape."""
        assert isinstance(model, BlockTransformer)
        figures = {}
        for shape in self.recipe.shapes:
            parts = [
                self._clip_loss(
                    model, self.val, rows, self.val_ids[rows], shape, model.config.grid[0]
                )
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
) -> Iterator[TrainStep]:
    """Trains, or goes on with, the run in `run_folder`; leaves the averaged model in its model/.

    tokenizer: how the model's config.json will name the tokenizer of these tokens.
    start_from: a model folder of the same sizes whose weights are the first ones; else random.
    """
    torch.manual_seed(train_config.seed)
    model = BlockTransformer(config)
    if start_from is not None:
        load_weights(model, start_from)
    model = model.to(device)
    compile_parts(model, Layer)
    task = TransformerTask(
        model, recipe, train, val, batch_size=train_config.batch_size, seed=train_config.seed
    )
    trainer = Trainer(task, train_config, run_folder)
    yield from trainer.run()
    folder = run_folder / "model"
    save_model(
        folder,
        "transformer",
        config,
        trainer.averaged_model.state_dict(),
        tokenizer=tokenizer,
        metadata={"steps": str(trainer.step), "minutes": f"{trainer.elapsed / 60:.1f}"},
    )
