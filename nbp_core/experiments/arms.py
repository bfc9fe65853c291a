"""Trains the models that experiments compare. An arm is one of these models.

Input: the settings that all arms share (Scale), the settings of an arm (Arm), and tokens. Output: a
run folder for each arm and seed, which several experiments can use. All arms of a seed see the same
whole clips in the same order, so equal steps are equal tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nbp_core.checkpoint import model_kind
from nbp_core.config.json import JsonConfig
from nbp_core.config.models import TransformerConfig
from nbp_core.config.shapes import Size3
from nbp_core.data.camera_moves import ordered_actions
from nbp_core.data.tokens import TokenSet
from nbp_core.train.alone import alone
from nbp_core.train.loop.trainer import MODEL_FOLDER, TrainConfig, TrainStep
from nbp_core.train.run_config import (
    TransformerRun,
    TransformerSizes,
    keep_fingerprints,
    keep_run,
)
from nbp_core.train.transformer.recipe import TransformerRecipe
from nbp_core.train.transformer.run import train_transformer

ROW: Size3 = (1, 1, 16)
HEAD_WIDTH = 32
VALIDATION_CLIPS = 8
"""Clips per validation during training; the figures in results files use more."""
NEVER = 1e9
"""Minutes between validations: none by time, since all arms validate at the same steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scale(JsonConfig):
    """Settings that all arms of an experiment share."""

    layers: int = 2
    width: int = 128
    steps: int = 600
    batch: int = 2
    lr: float = 2e-3
    muon_lr: float = 2e-3
    validations: int = 4
    """Number of validations per run, the last one included."""

    def __post_init__(self) -> None:
        if min(self.layers, self.width, self.batch) < 1 or self.steps < 2:
            raise ValueError("layers, width and batch must be at least 1, steps at least 2")

    def sizes(self, size: str) -> tuple[int, int]:
        """Layers and width of size S, M or L."""
        return {
            "S": (self.layers, self.width // 2),
            "M": (self.layers, self.width),
            "L": (self.layers + 1, self.width * 3 // 2),
        }[size]


@dataclass(frozen=True, kw_only=True, slots=True)
class Arm:
    """One model of an experiment."""

    name: str
    shape: Size3 = ROW
    """Block shape in which it is measured."""
    shapes: tuple[Size3, ...] = ()
    """Block shapes with which an elastic arm is trained, equally often; empty: `shape` alone."""
    size: str = "M"
    layout: Literal["hybrid", "elastic"] = "hybrid"
    """hybrid is the paper's model: LayerNorm, GELU, a learned vector for each position. elastic is
    our model, for several block shapes: RMSNorm, SwiGLU, positions by place in the grid."""
    share: float = 1.0
    """Share of the experiment's steps."""
    after: Arm | None = None
    """The arm whose weights this one starts from. Its steps do not count in `share`."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """Training and validation tokens, and the reference to their tokenizer for config.json."""

    train: TokenSet
    val: TokenSet
    tokenizer: dict[str, str]
    codebook_size: int

    @property
    def fingerprints(self) -> dict[str, str]:
        """The hash of each split's tokens."""
        return {"train": self.train.fingerprint(), "val": self.val.fingerprint()}

    @property
    def actions(self) -> tuple[str, ...]:
        """The named actions, camera moves last."""
        return ordered_actions(self.train.actions)

    @property
    def grid(self) -> Size3:
        """(t, h, w) of a clip."""
        t, h, w = self.train.tokens_Nthw.shape[1:]
        return t, h, w


def arm_folder(run_folder: Path, arm: Arm, scale: Scale, seed: int) -> Path:
    """The run folder of an arm. Its name has the settings that are not the defaults."""
    usual = Scale()
    others = [
        f"-{name.replace('_', '')}{getattr(scale, name)}"
        for name in ("layers", "width", "lr", "muon_lr")
        if getattr(scale, name) != getattr(usual, name)
    ]
    return run_folder / f"{arm.name}-{scale.steps}x{scale.batch}{''.join(others)}-seed{seed}"


def arm_model(run_folder: Path, arm: Arm, scale: Scale, seed: int) -> Path:
    """The model folder of a trained arm."""
    return arm_folder(run_folder, arm, scale, seed) / MODEL_FOLDER


def train_arm(
    arm: Arm, scale: Scale, seed: int, material: Material, run_folder: Path, device: str = "cpu"
) -> Iterator[TrainStep]:
    """Trains an arm, after the one that it starts from, unless they are trained already.

    Raises ValueError if a folder of that name holds a run with other settings or on other tokens.
    """
    start_from = None
    if arm.after is not None:
        yield from train_arm(arm.after, scale, seed, material, run_folder, device)
        start_from = arm_model(run_folder, arm.after, scale, seed)
    run = _run(arm, scale, seed, material)
    folder = arm_folder(run_folder, arm, scale, seed)
    with alone(folder):
        keep_run(run, folder, option=None)
        keep_fingerprints(
            material.fingerprints,
            folder,
            "was trained on other {} tokens than --tokens has: use another run folder",
        )
        if model_kind(folder / MODEL_FOLDER) is None:
            yield from train_transformer(
                arm_config(arm, scale, material),
                run.recipe,
                run.train,
                folder,
                material.train,
                material.val,
                material.tokenizer,
                device=device,
                start_from=start_from,
            )


def arm_config(arm: Arm, scale: Scale, material: Material) -> TransformerConfig:
    """The model of an arm. Raises ValueError for a width that cannot be divided into heads."""
    sizes = _run(arm, scale, 0, material).model
    return sizes.config(material.codebook_size, material.actions)


def _run(arm: Arm, scale: Scale, seed: int, material: Material) -> TransformerRun:
    shapes = arm.shapes or (arm.shape,)
    layers, width = scale.sizes(arm.size)
    whole_clips = (*[0.0] * (material.grid[0] - 1), 1.0)
    ours = arm.layout == "elastic"
    model = TransformerSizes(
        name=arm.name, num_layers=layers, width=width, num_heads=max(1, width // HEAD_WIDTH),
        layout=arm.layout, block_shape=arm.shape, grid=material.grid,
        max_len=1 + math.prod(material.grid), rope=ours, rms_norm=ours, swiglu=ours, aimed=False,
    )  # fmt: skip
    steps = round(scale.steps * arm.share)
    return TransformerRun(
        model=model,
        recipe=TransformerRecipe(
            shapes=shapes, shape_weights=(1.0,) * len(shapes),
            early_lengths=whole_clips, late_lengths=whole_clips, condition_dropout=0.0,
            num_validation_clips=VALIDATION_CLIPS,
        ),
        train=TrainConfig(
            steps=steps, lr=scale.lr, muon_lr=scale.muon_lr, batch_size=scale.batch, seed=seed,
            warmup_steps=max(1, steps // 20), ema_decay=max(0.5, 1 - 10 / steps),
            validate_minutes=NEVER, validate_steps=max(1, scale.steps // scale.validations),
        ),
        start_from=arm.after.name if arm.after else None,
    )  # fmt: skip
