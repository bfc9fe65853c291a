"""Trains a VideoTokenizer on crops of clips and of camera moves over photographs.

Shapes: N clips, B batch, T H W pixels, C colour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from nbp_core.checkpoint import load_weights
from nbp_core.config.json import MOST, JsonConfig, check_positive, check_range
from nbp_core.config.models import TokenizerConfig
from nbp_core.config.shapes import CLIP_FRAMES, CLIP_SIDE
from nbp_core.media.fidelity import MOST_PSNR
from nbp_core.tokenizer.conv import ResidualUnit
from nbp_core.tokenizer.interface import to_clip
from nbp_core.tokenizer.model import VideoTokenizer
from nbp_core.train.crops import Crops, Frames
from nbp_core.train.loop.compiling import compile_parts
from nbp_core.train.loop.task import Part, Task, spaced
from nbp_core.train.loop.trainer import TrainConfig, Trainer, TrainStep, new_accelerator
from nbp_core.train.losses.adversarial import Critic
from nbp_core.train.losses.losses import (
    flicker_loss,
    reconstruction_loss,
    spread_loss,
    stillness_loss,
)
from nbp_core.train.losses.perceptual import PerceptualLoss


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerRecipe(JsonConfig):
    """The crops of a batch, and the weights of the loss terms."""

    crop: int = 64
    """Side of a crop, in pixels."""
    num_frames: int = 9
    """Frames per training crop. A causal network learns from short clips as well."""
    early_frames: int = 5
    """Frames per crop in the first half of the run, for more and cheaper steps."""
    photo_share: float = 0.15
    """Share of crops from camera moves over photographs."""
    crop_tries: int = 1
    """Places drawn for each crop; the one with the most motion is used."""
    clips_in_memory: bool = True
    """Holds all clips in the device's memory; False reads them from disk when needed."""
    l1_weight: float = 0.2
    """Weight of the L1 loss, beside 4 MSE."""
    spread_weight: float = 0.1
    """Weight of spread_loss, which keeps latent channels used and uncorrelated. Without it FSQ
    settled on 66 of 4,375 codes."""
    still_weight: float = 0.1
    """Weight of the loss that keeps latents constant where pixels are. Without it a quarter of the
    tokens at still places changed from one latent frame to the next."""
    flicker_weight: float = 0.0
    """Weight of the loss that keeps reconstructed pixels constant where the clip's are; 0: off."""
    decoder_only: bool = False
    """Trains the decoder alone, so that the tokens of every clip stay the same."""
    perceptual_weight: float = 0.0
    """Weight of the perceptual loss (MobileNetV2 features); 0 is off."""
    adversarial_weight: float = 0.0
    """Weight of the adversarial loss (PatchGAN); 0 is off."""
    adversarial_start: float = 0.5
    """Share of the run after which the adversarial loss starts."""
    critic_lr: float = 2e-4
    num_validation_clips: int = 25

    def __post_init__(self) -> None:
        check_range(self, 1, CLIP_SIDE, "crop")
        check_range(self, 1, CLIP_FRAMES, "num_frames", "early_frames")
        check_range(self, 1, MOST, "crop_tries", "num_validation_clips")
        check_range(self, 0, 1, "photo_share", "adversarial_start")
        check_positive(self, "critic_lr")


def check_crops(config: TokenizerConfig, recipe: TokenizerRecipe) -> None:
    """Raises ValueError for crops that the model cannot cut into tokens."""
    for name in ("num_frames", "early_frames"):
        try:
            config.grid(getattr(recipe, name), recipe.crop, recipe.crop)
        except ValueError as error:
            raise ValueError(
                f"{name} {getattr(recipe, name)} and crop {recipe.crop} do not fit the model: "
                f"{error}"
            ) from error


def psnr(output_BCTHW: Tensor, clip_BCTHW: Tensor) -> Tensor:
    """PSNR of each clip in dB, at most MOST_PSNR, over all its pixels."""
    mse = (output_BCTHW.clamp(0, 1) - clip_BCTHW).square().flatten(1).mean(1)
    return _decibel(mse)


def _decibel(mse: Tensor) -> Tensor:
    return (-10 * torch.log10(mse)).clamp(max=MOST_PSNR)


class TokenizerTask(Task):
    """Reconstruction of random crops."""

    model: VideoTokenizer

    def __init__(
        self,
        model: VideoTokenizer,
        recipe: TokenizerRecipe,
        train_NTHWC: Frames,
        val_NTHWC: Frames,
        photos_NTHWC: Frames | None,
        *,
        batch_size: int,
        seed: int,
    ) -> None:
        check_crops(model.config, recipe)
        self.model = model
        self.recipe = recipe
        self.device = next(model.parameters()).device
        model.encoder_layers.requires_grad_(not recipe.decoder_only)
        self.crops = Crops(
            train_NTHWC,
            photos_NTHWC,
            recipe,
            batch_size=batch_size,
            seed=seed,
            device=self.device,
        )
        self.val_NTHWC = val_NTHWC[spaced(len(val_NTHWC), recipe.num_validation_clips)]
        self.perceptual = None
        if recipe.perceptual_weight:
            self.perceptual = PerceptualLoss().to(self.device)
        self.critic = None
        if recipe.adversarial_weight:
            self.critic = Critic(recipe.critic_lr, self.device)

    def loss(self, step: int, progress: float, part: Part) -> tuple[Tensor, dict[str, float]]:
        length = self.recipe.early_frames if progress < 0.5 else self.recipe.num_frames
        clip = self.crops.batch(step, length, part)
        latent = self.model.to_latent(clip)
        output = self.model.from_code(self.model.quantizer(latent))
        recipe = self.recipe
        loss, mse = reconstruction_loss(output, clip, recipe.l1_weight)
        figures = {"psnr": _decibel(mse)}
        terms = {
            "flicker": (recipe.flicker_weight, flicker_loss(output, clip)),
            "spread": (recipe.spread_weight, spread_loss(latent)),
            "still": (
                recipe.still_weight,
                stillness_loss(self.model.quantizer.bound(latent), clip),
            ),
        }
        if self.perceptual is not None:
            terms["perceptual"] = recipe.perceptual_weight, self.perceptual(output, clip)
        if self.critic is not None and progress >= recipe.adversarial_start:
            terms["adversarial"] = recipe.adversarial_weight, self.critic.loss(output)
            self.critic.study(output, clip)
        for name, (weight, value) in terms.items():
            loss = loss + weight * value
            figures[name] = value
        return loss, {name: float(value.detach()) for name, value in figures.items()}

    def after_step(self, accelerator: Accelerator) -> dict[str, float]:
        return {} if self.critic is None else self.critic.step(accelerator)

    def extra_state(self) -> dict[str, Any]:
        return {} if self.critic is None else {"critic": self.critic.state()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        if self.critic is not None:
            self.critic.load_state(state["critic"])

    def validate(self) -> dict[str, float]:
        """Mean PSNR of validation clips in dB, movement of still latents and pixels, and number of
        codes in use. Computed in float32, in which clips are always encoded."""
        with torch.autocast(self.device.type, enabled=False):
            return self._validate()

    def _validate(self) -> dict[str, float]:
        model = self.model
        values, still, flicker = [], [], []
        used = torch.zeros(model.config.codebook_size, dtype=torch.bool)
        for frames in self.val_NTHWC:
            clip = to_clip(frames[None], self.device)
            latent = model.to_latent(clip)
            code = model.quantizer(latent)
            still.append(stillness_loss(model.quantizer.bound(latent), clip))
            used[model.quantizer.code_to_token(code).flatten().cpu()] = True
            output = model.from_code(code).float()
            flicker.append(flicker_loss(output, clip))
            values.append(psnr(output, clip))
        return {
            "psnr": float(torch.cat(values).mean()),
            "still": float(torch.stack(still).mean()),
            "flicker": float(torch.stack(flicker).mean()),
            "codes_used": float(used.sum()),
        }


def train_tokenizer(
    config: TokenizerConfig,
    recipe: TokenizerRecipe,
    train_config: TrainConfig,
    run_folder: Path,
    train_NTHWC: Frames,
    val_NTHWC: Frames,
    photos_NTHWC: Frames | None,
    device: str = "cpu",
    start_from: Path | None = None,
) -> Iterator[TrainStep]:
    """Trains, or resumes, the run in `run_folder`; writes the averaged model to its model/.

    train_NTHWC, val_NTHWC: clips, uint8. photos_NTHWC: camera moves over photographs, for the
    recipe's photo_share of the crops. start_from: a model folder of the same sizes with the first
    weights; None: random weights.
    """
    accelerator = new_accelerator(device, train_config.accumulate)
    torch.manual_seed(train_config.seed)
    model = VideoTokenizer(config)
    if start_from is not None:
        load_weights(model, start_from)
    model = model.to(accelerator.device).channels_last()
    if accelerator.device.type == "cuda":
        compile_parts(model, ResidualUnit)
    task = TokenizerTask(
        model,
        recipe,
        train_NTHWC,
        val_NTHWC,
        photos_NTHWC,
        batch_size=train_config.batch_size,
        seed=train_config.seed,
    )
    trainer = Trainer(task, train_config, run_folder, accelerator)
    yield from trainer.run()
    trainer.save_model("tokenizer", config)
