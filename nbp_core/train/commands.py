"""Training's verbs of the command line: data, train-tokenizer, train-transformer, ..."""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nbp_core.checkpoint import weights_sha256
from nbp_core.config import ClassifierConfig
from nbp_core.cosmos import CosmosTokenizer, cosmos_sha256, is_cosmos
from nbp_core.media_files import Frames
from nbp_core.presets import ELASTIC_SIZES, TOKENIZER_PRESETS, elastic
from nbp_core.tokenizer import VideoTokenizer
from nbp_core.train.camera_moves import CAMERA_MOVES, PhotoClips
from nbp_core.train.data import Split, load_clips, open_clips
from nbp_core.train.metaworld import render
from nbp_core.train.tokens import PHOTO_LOOK, TokenSet, encode_clips
from nbp_core.train.train_all import PLANS, Plan, Sources, train_all
from nbp_core.train.train_classifier import train_classifier
from nbp_core.train.train_tokenizer import TokenizerRecipe, train_tokenizer
from nbp_core.train.train_transformer import TransformerRecipe, train_transformer
from nbp_core.train.trainer import TrainConfig, TrainStep

NUM_PHOTO_CLIPS = 1_000
"""Camera moves that a tokenizer trains on, besides the clips."""


def add_verbs(verbs: Any) -> None:
    """Adds the training verbs to the command line's parser."""
    data = verbs.add_parser("data", help="make training clips")
    sources = data.add_subparsers(required=True, metavar="SOURCE")
    metaworld = sources.add_parser("metaworld", help="render 50 robot-arm actions")
    metaworld.add_argument("out", type=Path, help="folder for the shards")
    metaworld.add_argument("--split", choices=("train", "val"), default="train")
    metaworld.add_argument("--clips", type=int, default=160, help="clips of each action")
    metaworld.add_argument("--seed", type=int, default=0)
    metaworld.add_argument("--actions", nargs="+", help="only these; default: all fifty")
    metaworld.set_defaults(run=_metaworld)

    tokenizer = verbs.add_parser("train-tokenizer", help="train a tokenizer on clips")
    _add_common(tokenizer, lr=1e-3, batch_size=10, muon_lr=3e-3)
    tokenizer.add_argument("--preset", choices=sorted(TOKENIZER_PRESETS), default="nano")
    tokenizer.add_argument("--name", help="name of the model; default: the preset's")
    tokenizer.set_defaults(run=_train_tokenizer)

    transformer = verbs.add_parser("train-transformer", help="train a transformer on tokens")
    _add_common(transformer, lr=2e-3, batch_size=4, muon_lr=2e-3)
    transformer.add_argument(
        "--tokenizer",
        type=Path,
        required=True,
        help="its model folder, or one with Cosmos' encoder.jit and decoder.jit",
    )
    transformer.add_argument("--size", choices=sorted(ELASTIC_SIZES), default="tiny")
    transformer.add_argument("--name", help="name of the model; default: the size's")
    transformer.add_argument(
        "--photo-clips", type=int, default=400, help="camera-move clips to encode"
    )
    transformer.add_argument(
        "--stock-weight", type=float, default=1.0, help="weight of clips with the stock look"
    )
    transformer.add_argument("--limit", type=int, help="clips of each action to encode")
    transformer.set_defaults(run=_train_transformer)

    classifier = verbs.add_parser(
        "train-classifier", help="train a judge of which action a clip shows"
    )
    _add_budget(classifier, lr=2e-3, batch_size=32, muon_lr=2e-3)
    classifier.set_defaults(run=_train_classifier)

    everything = verbs.add_parser(
        "train-all", help="tokenizer, tokens, both transformers and samples, unattended"
    )
    everything.add_argument("--clips", type=Path, required=True, help="folder of shards or videos")
    everything.add_argument("--photos", type=Path, help="folder of pictures for camera moves")
    everything.add_argument("--run", type=Path, required=True, dest="run_folder", help="run folder")
    everything.add_argument("--minutes", type=float, required=True, help="time budget of it all")
    everything.add_argument("--plan", type=Path, help="JSON of settings to change in the plan")
    everything.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    everything.set_defaults(run=_train_all)


def _add_common(
    parser: argparse.ArgumentParser, lr: float, batch_size: int, muon_lr: float
) -> None:
    _add_budget(parser, lr, batch_size, muon_lr)
    parser.add_argument("--photos", type=Path, help="folder of pictures for camera moves")
    parser.add_argument(
        "--start-from", type=Path, help="model folder of the same sizes to start from"
    )


def _add_budget(
    parser: argparse.ArgumentParser, lr: float, batch_size: int, muon_lr: float
) -> None:
    parser.add_argument("--clips", type=Path, required=True, help="folder of shards or of videos")
    parser.add_argument("--run", type=Path, required=True, dest="run_folder", help="run folder")
    budget = parser.add_mutually_exclusive_group(required=True)
    budget.add_argument("--minutes", type=float, help="time budget")
    budget.add_argument("--steps", type=int, help="budget in steps")
    parser.add_argument("--lr", type=float, default=lr)
    parser.add_argument(
        "--muon-lr",
        type=float,
        default=muon_lr,
        help="rate of Muon, which trains the matrices; 0: AdamW alone",
    )
    parser.add_argument("--batch-size", type=int, default=batch_size)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")


def _train_config(args: argparse.Namespace) -> TrainConfig:
    return TrainConfig(
        minutes=args.minutes,
        steps=args.steps,
        lr=args.lr,
        batch_size=args.batch_size,
        seed=args.seed,
        muon_lr=args.muon_lr or None,
    )


def _metaworld(args: argparse.Namespace) -> None:
    render(args.out, args.split, args.clips, args.seed, args.actions)


def _train_tokenizer(args: argparse.Namespace) -> None:
    config = TOKENIZER_PRESETS[args.preset]
    cache = args.run_folder / "frames"
    photos = None if args.photos is None else PhotoClips(args.photos).render(NUM_PHOTO_CLIPS)
    _show(
        train_tokenizer(
            replace(config, name=args.name or config.name),
            TokenizerRecipe(),
            _train_config(args),
            args.run_folder,
            load_clips(args.clips, "train", cache).frames_NTHWC,
            load_clips(args.clips, "val", cache).frames_NTHWC,
            photos,
            device=args.device,
            start_from=args.start_from,
        )
    )


def _train_transformer(args: argparse.Namespace) -> None:
    tokenizer: VideoTokenizer | CosmosTokenizer
    if is_cosmos(args.tokenizer):
        tokenizer = CosmosTokenizer.from_folder(args.tokenizer, device=args.device)
        fingerprint = cosmos_sha256(args.tokenizer)
        reference = {"cosmos": fingerprint}
    else:
        tokenizer = VideoTokenizer.from_pretrained(args.tokenizer, device=args.device)
        fingerprint = weights_sha256(args.tokenizer)
        place = os.path.relpath(args.tokenizer, args.run_folder / "model")
        reference = {"folder": place, "sha256": fingerprint}
    train, val = (_token_set(args, tokenizer, fingerprint, split) for split in ("train", "val"))
    actions = _actions(train)
    layers, width = ELASTIC_SIZES[args.size]
    name = args.name or args.size
    config = elastic(name, layers, width, tokenizer.config.codebook_size, actions)
    _show(
        train_transformer(
            config,
            TransformerRecipe(look_weights=(("stock", args.stock_weight),)),
            _train_config(args),
            args.run_folder,
            train,
            val,
            reference,
            device=args.device,
            start_from=args.start_from,
        )
    )


def _train_classifier(args: argparse.Namespace) -> None:
    cache = args.run_folder / "frames"
    train, val = (load_clips(args.clips, split, cache) for split in ("train", "val"))
    config = ClassifierConfig(name=args.run_folder.name, actions=tuple(sorted(set(train.actions))))
    _show(train_classifier(config, _train_config(args), args.run_folder, train, val, args.device))


def _train_all(args: argparse.Namespace) -> None:
    plan = PLANS[args.device]
    if args.plan is not None:
        plan = Plan.from_dict({**plan.to_dict(), **json.loads(args.plan.read_text())})
    sources = Sources(args.clips, args.photos)
    for name, step in train_all(sources, args.run_folder, args.minutes, plan, args.device):
        validation = {k: v for k, v in step.metrics.items() if k.startswith("val_")}
        if validation:
            report = {"model": name, "step": step.step, **validation}
            tqdm.write(json.dumps(report), file=sys.stderr)


def _actions(train: TokenSet) -> tuple[str, ...]:
    """The named actions, camera moves last."""
    names = set(train.actions)
    return (*sorted(names - set(CAMERA_MOVES)), *(m for m in CAMERA_MOVES if m in names))


def _token_set(
    args: argparse.Namespace,
    tokenizer: VideoTokenizer | CosmosTokenizer,
    fingerprint: str,
    split: Split,
) -> TokenSet:
    """The clips of a split and camera moves over the photographs, encoded once per run."""
    folder = args.run_folder / "tokens" / split
    known = TokenSet.load(folder, fingerprint)
    if known is not None:
        return known
    clips = _labelled(args.clips, split, args.limit)
    if args.photos is not None:
        count = args.photo_clips if split == "train" else max(1, args.photo_clips // 50)
        clips = itertools.chain(clips, _photo_clips(args.photos, split, count))
    tokens = encode_clips(tokenizer, clips, device=args.device)
    tokens.save(folder, fingerprint)
    return tokens


def _labelled(folder: Path, split: Split, limit: int | None) -> Iterator[tuple[Frames, str, str]]:
    """(frames_THWC, action, look) of each clip of a folder of shards or of videos."""
    for record in open_clips(folder, split, limit):
        yield record.frames_THWC, record.action, record.look


def _photo_clips(folder: Path, split: Split, count: int) -> Iterator[tuple[Frames, str, str]]:
    # Different moves over the same pictures: pictures kept for tests never come here.
    photos = PhotoClips(folder, seed=0 if split == "train" else 1)
    for frames, move in photos.draw_many(count):
        yield frames, move, PHOTO_LOOK


def _show(steps: Iterator[TrainStep]) -> None:
    """A progress bar over a run, on stderr, with each validation on a line of its own."""
    with tqdm(total=100, unit="%", bar_format="{l_bar}{bar}| {elapsed} {postfix}") as bar:
        for step in steps:
            bar.update(100 * step.progress - bar.n)
            bar.set_postfix(step=step.step, loss=f"{step.metrics['loss']:.4f}", refresh=False)
            validation = {k: v for k, v in step.metrics.items() if k.startswith("val_")}
            if validation:
                bar.write(json.dumps({"step": step.step, **validation}), file=None)
