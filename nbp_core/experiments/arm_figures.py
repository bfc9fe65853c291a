"""Figures of a trained arm: its loss on held-out clips, its curve, and the cost of its training.

Input: run folders of arms. Output: rows of a results file. A loss is measured once and stored in
the run folder. Shapes: N clips, t latent frames.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np

from nbp_core.config.shapes import format_block_shape
from nbp_core.config.weight_files import weights_sha256
from nbp_core.evaluation.held_out import Losses, frame_losses
from nbp_core.experiments.arms import Arm, Material, Scale, arm_folder, arm_model
from nbp_core.experiments.comparisons import Unit
from nbp_core.media.files import replacing
from nbp_core.results.files import read_curve
from nbp_core.train.loop.log import METRICS_FILE
from nbp_core.train.loop.task import spaced
from nbp_core.transformer.conditions import Conditions
from nbp_core.transformer.model import BlockTransformer

Row = dict[str, Any]


def held_out_losses(
    run_folder: Path, unit: Unit, scale: Scale, seed: int, material: Material, count: int
) -> Losses:
    """Losses (N, t) in nats per token of `count` validation clips, the same for every arm."""
    folder, trained = (of(run_folder, unit.arm, scale, seed) for of in (arm_folder, arm_model))
    name = f"losses-{weights_sha256(trained)[:8]}-{format_block_shape(unit.shape)}-{count}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):  # not measured yet, or torn
        kept: Losses = np.load(folder / name)
        return kept
    model = BlockTransformer.from_pretrained(trained)
    rows = spaced(len(material.val), count)
    actions = [material.val.actions[row] for row in rows]
    tokens = material.val.tokens_Nthw[rows]
    losses = frame_losses(model, Conditions(model.config), tokens, actions, unit.shape)
    with replacing(folder / name) as partial, partial.open("wb") as file:
        np.save(file, losses)
    return losses


def loss_figures(losses_Nt: Losses) -> Row:
    """Mean loss per token over all latent frames, and over those after the first.

    The first block of any shape is predicted token by token; later ones block by block.
    """
    later_N = losses_Nt[:, 1:].mean(1)
    return {"loss": losses_Nt.mean(), "loss_later": later_N.mean(), "loss_error": _error(later_N)}


def difference_figures(losses_Nt: Losses, against_Nt: Losses) -> Row:
    """Difference of two arms' losses after the first latent frame, by clip, in nats per token."""
    later_N, against_N = losses_Nt[:, 1:].mean(1), against_Nt[:, 1:].mean(1)
    difference_N = later_N - against_N
    return {
        "difference": difference_N.mean(),
        "difference_error": _error(difference_N),
        "difference_percent": 100 * difference_N.mean() / against_N.mean(),
    }


def _error(values_N: Losses) -> float:
    """Standard error of the mean over clips."""
    return float(values_N.std(ddof=1) / np.sqrt(len(values_N)))


def training_figures(run_folder: Path, arm: Arm, scale: Scale, seed: int) -> Row:
    """Size and training cost of an arm, including the cost of the arm that it starts from."""
    folder = arm_folder(run_folder, arm, scale, seed)
    curve = read_curve(folder / METRICS_FILE)
    layers, width = scale.sizes(arm.size)
    steps = curve.metrics["loss"][-1][0]
    row: Row = {
        "layers": layers, "width": width, "steps": steps, "clips": steps * scale.batch,
        "tflop": sum(value for _, value in curve.metrics["tflop"]), "minutes": curve.minutes,
        "weights": weights_sha256(arm_model(run_folder, arm, scale, seed))[:8],
    }  # fmt: skip
    if arm.after is not None:
        first = training_figures(run_folder, arm.after, scale, seed)
        row |= {key: row[key] + first[key] for key in ("steps", "clips", "tflop", "minutes")}
    return row


def curve_rows(run_folder: Path, unit: Unit, scale: Scale, seed: int) -> list[Row]:
    """Validation losses during training, in the unit's block shape.

    The steps of an arm that continues another one include the other's steps.
    """
    arm = unit.arm
    curve = read_curve(arm_folder(run_folder, arm, scale, seed) / METRICS_FILE)
    before = round(scale.steps * arm.after.share) if arm.after else 0
    points = curve.metrics.get(f"val_{format_block_shape(unit.shape)}", ())
    return [
        {"arm": unit.name, "seed": seed, "step": before + step, "loss": loss}
        for step, loss in points
    ]
