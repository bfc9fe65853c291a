"""Trains a tokenizer and transformers like the bundled ones in one unattended run.

Input: clips, photographs and a number of minutes. Output, in the run folder: models/ (laid out like
weights/), figures.json and a sheet of samples per transformer. Finished stages are not repeated.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nbp_core.checkpoint import model_kind
from nbp_core.config.json import MOST, JsonConfig, check_positive, check_range, check_shares
from nbp_core.config.presets import ELASTIC_SIZES, TOKENIZER_PRESETS, elastic
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.weight_files import weights_sha256
from nbp_core.data.camera_moves import MAX_PACE, PhotoClips, ordered_actions
from nbp_core.data.clips import VAL_FIRST, load_clips, open_clips
from nbp_core.data.tokens import TokenSet, encode_clips, labelled_clips
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.media.video import write_strip
from nbp_core.tokenizer.interface import to_clip
from nbp_core.tokenizer.model import VideoTokenizer
from nbp_core.train.loop.trainer import TrainConfig, TrainStep
from nbp_core.train.run_config import TransformerSizes, is_begun, keep_run, keep_sources
from nbp_core.train.tokenizer import (
    TokenizerRecipe,
    check_crops,
    psnr,
    train_tokenizer,
)
from nbp_core.train.transformer.recipe import TransformerRecipe
from nbp_core.train.transformer.run import train_transformer

SAMPLE_ACTIONS = ("door-open", "drawer-close", "button-press", "pan-left", "zoom-in")
"""The actions on a sheet of samples, where the model knows them."""
SHEET_FRAMES = 4
"""Every fourth frame of a sample is on its sheet."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan(JsonConfig):
    """The shares of the minutes for the stages, batch sizes, recipes and learning rates."""

    tokenizer_share: float = 0.5
    transformer_shares: tuple[float, ...] = (0.15, 0.27)
    """Share of the minutes for each of `transformers`; encoding and figures have the rest."""
    transformers: tuple[str, ...] = ("tiny", "small")
    tokenizer_batch: int = 10
    transformer_batch: int = 4
    tokenizer_recipe: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    transformer_recipe: TransformerRecipe = field(default_factory=TransformerRecipe)
    tokenizer_photos: int = 1_000
    token_photos: int = 800
    clips_of_an_action: int | None = None
    tokenizer_lr: float = 1e-3
    transformer_lr: float = 2e-3
    muon_lr: float = 3e-3

    def __post_init__(self) -> None:
        check_range(self, 1, MOST, "tokenizer_batch", "transformer_batch", "tokenizer_photos")
        check_range(self, 1, MOST, "token_photos", "clips_of_an_action")
        check_crops(TOKENIZER_PRESETS["nano"], self.tokenizer_recipe)
        sizes = TransformerSizes()
        self.transformer_recipe.check_blocks(sizes.config(1, ()), sizes.grid[0])
        check_positive(self, "tokenizer_share", "tokenizer_lr", "transformer_lr", "muon_lr")
        check_shares(self, "transformer_shares")
        unknown = [name for name in self.transformers if name not in ELASTIC_SIZES]
        if unknown:
            raise ValueError(f"transformers must be of {list(ELASTIC_SIZES)}, not {unknown[0]!r}")
        if len(self.transformers) != len(self.transformer_shares):
            raise ValueError("transformers and transformer_shares must be equally long")


PLAN_MAY_CHANGE = ("tokenizer_share", "transformers", "transformer_shares")
"""Settings of a plan that may change when a run resumes: the budgets of its stages."""

PLANS = {
    "cpu": Plan(),
    "cuda": Plan(
        tokenizer_batch=64,
        transformer_batch=48,
        tokenizer_recipe=TokenizerRecipe(crop=96, early_frames=9, num_frames=17),
        tokenizer_photos=3_000,
        token_photos=6_000,
    ),
}


@dataclass(frozen=True)
class Sources:
    """The folders of clips and photographs."""

    clips: Path
    photos: Path | None


def train_all(
    sources: Sources, run_folder: Path, minutes: float, plan: Plan, device: str
) -> Iterator[tuple[str, TrainStep]]:
    """Runs all unfinished stages; yields (name of the model, training step).

    Raises ValueError if the run folder was begun with another plan or other data.
    """
    keep_run(plan, run_folder, option="--plan", may_change=PLAN_MAY_CHANGE)
    models = run_folder / "models"
    made = any(is_begun(run_folder / name) for name in ("", "nano", *plan.transformers))
    folders = {"clips": sources.clips, "photos": sources.photos}
    data = keep_sources(folders, run_folder, has_begun=made)
    source = json.dumps([data, plan.token_photos, plan.clips_of_an_action])
    tokenizer_folder = models / "nano"
    if model_kind(tokenizer_folder) is None:
        budget = minutes * plan.tokenizer_share
        for step in _tokenizer(sources, run_folder, budget, plan, device):
            yield "nano", step
        _move(run_folder / "nano" / "model", tokenizer_folder)
    tokenizer = VideoTokenizer.from_pretrained(tokenizer_folder, device)
    fingerprint, tokens = weights_sha256(tokenizer_folder), {}
    for split in VAL_FIRST:
        clips = labelled_clips(
            sources.clips, split, plan.clips_of_an_action, sources.photos, plan.token_photos, seed=1
        )
        encode = partial(encode_clips, tokenizer, clips, device=device)
        folder = run_folder / "tokens" / split
        tokens[split] = TokenSet.kept(folder, fingerprint, source, encode)
    for name, share in zip(plan.transformers, plan.transformer_shares, strict=True):
        if model_kind(models / name) is None:
            for step in _transformer(
                name, tokens, run_folder, tokenizer_folder, minutes * share, plan, device
            ):
                yield name, step
            _move(run_folder / name / "model", models / name)
        _sheet(VideoPipeline.from_pretrained(models / name, device), run_folder / f"{name}.png")
    figures = _figures(tokenizer, sources, run_folder)
    (run_folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    source.rename(target)


def _budget(minutes: float, batch_size: int, lr: float, plan: Plan, **more: Any) -> TrainConfig:
    return TrainConfig(
        minutes=minutes, lr=lr, batch_size=batch_size, muon_lr=plan.muon_lr,
        validate_minutes=max(1.0, minutes / 6), **more,
    )  # fmt: skip


def _tokenizer(
    sources: Sources, run_folder: Path, minutes: float, plan: Plan, device: str
) -> Iterator[TrainStep]:
    photos = None
    if sources.photos is not None:
        photos = PhotoClips(sources.photos, max_pace=MAX_PACE).render(plan.tokenizer_photos)
    cache = run_folder / "frames"
    val, train = (load_clips(sources.clips, split, cache).frames_NTHWC for split in VAL_FIRST)
    yield from train_tokenizer(
        TOKENIZER_PRESETS["nano"],
        plan.tokenizer_recipe,
        _budget(minutes, plan.tokenizer_batch, plan.tokenizer_lr, plan),
        run_folder / "nano",
        train,
        val,
        photos,
        device=device,
    )


def _transformer(
    name: str,
    tokens: dict[Any, TokenSet],
    run_folder: Path,
    tokenizer: Path,
    minutes: float,
    plan: Plan,
    device: str,
) -> Iterator[TrainStep]:
    actions = ordered_actions(tokens["train"].actions)
    codes = VideoTokenizer.from_pretrained(tokenizer).config.codebook_size
    layers, width = ELASTIC_SIZES[name]
    yield from train_transformer(
        elastic(name, layers, width, codes, actions),
        plan.transformer_recipe,
        _budget(minutes, plan.transformer_batch, plan.transformer_lr, plan, ema_decay=0.995),
        run_folder / name,
        tokens["train"],
        tokens["val"],
        {"folder": f"../{tokenizer.name}", "sha256": weights_sha256(tokenizer)},
        device=device,
    )


def sample_actions(known: Sequence[str]) -> list[str]:
    """SAMPLE_ACTIONS that are known, filled up with others, evenly spread, to as many."""
    wanted = [name for name in SAMPLE_ACTIONS if name in known]
    others = [name for name in known if name not in wanted]
    number = min(len(SAMPLE_ACTIONS) - len(wanted), len(others))
    chosen = np.linspace(0, len(others) - 1, number).round().astype(int)
    return wanted + [others[index] for index in chosen]


def _sheet(pipeline: VideoPipeline, path: Path) -> None:
    """Writes one row per sample: a few actions, seeds 0 and 1, the paper's sampling, by rows."""
    rows: list[NDArray[np.uint8]] = []
    for action in sample_actions(pipeline.actions):
        for seed in (0, 1):
            frames = pipeline.generate(action, sampling=SamplingConfig(seed=seed)).frames_THWC
            rows.append(np.concatenate(list(frames[::SHEET_FRAMES]), axis=1))
    write_strip(path, np.concatenate(rows)[None])


@torch.inference_mode()
def _figures(tokenizer: VideoTokenizer, sources: Sources, run_folder: Path) -> dict[str, Any]:
    """PSNR of the tokenizer by look, over all validation clips."""
    device = next(tokenizer.parameters()).device
    began = time.monotonic()
    by_look: dict[str, list[float]] = {}
    used: set[int] = set()
    for record in open_clips(sources.clips, "val"):
        clip = to_clip(record.frames_THWC[None], device)
        tokens = tokenizer.encode(clip)
        used |= set(tokens.flatten().tolist())
        value = float(psnr(tokenizer.decode(tokens), clip))
        by_look.setdefault(record.look or "all", []).append(value)
    return {
        "psnr_db": {look: float(np.mean(values)) for look, values in by_look.items()},
        "clips": {look: len(values) for look, values in by_look.items()},
        "codes_used": len(used),
        "codes": tokenizer.config.codebook_size,
        "seconds": time.monotonic() - began,
        "run": run_folder.name,
    }
