"""The verbs train-tokenizer, train-transformer, train-classifier, train-key-reader: one run each.

With `accelerate launch -m nbp_core ...` several processes share a run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator, PartialState
from tqdm import tqdm

from nbp_core.cli.options import check_least
from nbp_core.cli.train_options import (
    add_run_options,
    add_train_options,
    chosen_run,
    chosen_train,
    configured_run,
    refusing,
)
from nbp_core.config.description import load_config, name_of_folder
from nbp_core.config.models import (
    ClassifierConfig,
    TokenGridConfig,
    TokenizerConfig,
    TransformerConfig,
)
from nbp_core.config.presets import ELASTIC_SIZES, TOKENIZER_PRESETS
from nbp_core.config.shapes import CLIP_FRAMES, CLIP_SIDE, format_block_shape
from nbp_core.config.weight_files import weights_sha256
from nbp_core.data.arm_keys import PLAYER_KEYS, read_episodes, read_training_episodes
from nbp_core.data.camera_keys import STILL, PanoramaKeys, PhotoKeys, draw_many
from nbp_core.data.camera_moves import CAMERA_MOVES, MAX_PACE, PhotoClips, ordered_actions
from nbp_core.data.clips import SPLITS, VAL_FIRST, Split, load_clips
from nbp_core.data.key_frames import key_reader_config, load_key_pairs
from nbp_core.data.keys import FRAMES_PER_KEY, KeyClip
from nbp_core.data.tokens import TokenSet, encode_clips, encode_key_clips, labelled_clips
from nbp_core.media.files import printable_name
from nbp_core.tokenizer.cosmos import CosmosTokenizer, cosmos_sha256, is_cosmos
from nbp_core.tokenizer.model import VideoTokenizer
from nbp_core.train.classifier import train_classifier
from nbp_core.train.growth import check_start
from nbp_core.train.loop.log import last_step
from nbp_core.train.loop.trainer import TrainConfig, TrainStep, check_parts, new_accelerator
from nbp_core.train.losses.perceptual import PerceptualLoss
from nbp_core.train.run_config import (
    ClassifierRun,
    TokenizerRun,
    TransformerRun,
    keep_run,
    keep_sources,
)
from nbp_core.train.tokenizer import train_tokenizer
from nbp_core.train.transformer.recipe import (
    ARM_SOURCE,
    CLIPS_SOURCE,
    PANORAMA_SOURCE,
    PHOTO_SOURCE,
)
from nbp_core.train.transformer.run import train_transformer
from nbp_core.transformer.prompts import UCF101_CLASSES, prompt_ids

KEYS_PER_CLIP = 8
"""Keys per clip of camera keys, which then has 33 frames."""
CLASSIFIER_TRAIN = TrainConfig(minutes=25, lr=2e-3, batch_size=32, muon_lr=2e-3)
READER_TRAIN = TrainConfig(
    minutes=20, lr=2e-3, batch_size=64, muon_lr=2e-3, warmup_steps=20, ema_decay=0.995
)
STOCK = "stock"
"""The look that --stock-weight weighs."""
VALIDATION_SHARE = 8
"""Training episodes per validation episode."""


def add_verbs(verbs: Any) -> None:
    """Adds the verbs of a single run to the command line's parser."""
    tokenizer = verbs.add_parser("train-tokenizer", help="train a tokenizer on clips")
    add_run_options(tokenizer)
    tokenizer.add_argument(
        "--preset", choices=sorted(TOKENIZER_PRESETS), help="architecture; default: nano"
    )
    tokenizer.set_defaults(run=_train_tokenizer)

    transformer = verbs.add_parser("train-transformer", help="train a transformer on tokens")
    add_run_options(transformer)
    transformer.add_argument(
        "--tokenizer",
        type=Path,
        required=True,
        help="folder of a tokenizer, or of Cosmos' encoder.jit and decoder.jit",
    )
    transformer.add_argument(
        "--size", choices=sorted(ELASTIC_SIZES), help="number of layers and width; default: tiny"
    )
    transformer.add_argument(
        "--prompts",
        type=Path,
        help="folder with LLaMA-2's tokenizer.json, for models whose conditions are class prompts",
    )
    transformer.add_argument(
        "--stock-weight",
        type=float,
        help="how often clips with the stock look are drawn, relative to other clips; default: the "
        "config's, else 1",
    )
    transformer.add_argument(
        "--arm-keys", type=Path, help="folder of episodes of an arm moved by keys (`data arm-keys`)"
    )
    transformer.add_argument(
        "--panoramas", type=Path, help="folder of panoramas, 512 x 256 pixels, for camera keys"
    )
    transformer.add_argument(
        "--limit", type=int, help="largest number of clips per action to encode; default: all"
    )
    transformer.set_defaults(run=_train_transformer)

    classifier = verbs.add_parser(
        "train-classifier", help="train a network that recognises the action of a clip"
    )
    add_train_options(classifier)
    classifier.set_defaults(run=_train_classifier)

    reader = verbs.add_parser(
        "train-key-reader", help="train a network that reads which key moved a latent frame"
    )
    add_train_options(reader, is_of_clips=False)
    reader.add_argument(
        "--arm-keys", type=Path, required=True, help="folder of episodes (`data arm-keys`)"
    )
    reader.add_argument(
        "--tokenizer", type=Path, required=True,
        help="folder of a tokenizer; its reconstructions of the episodes are training data too",
    )  # fmt: skip
    reader.add_argument(
        "--episodes", type=int, default=500, help="number of training episodes; default: 500"
    )
    reader.set_defaults(run=_train_key_reader)


@refusing
def _train_tokenizer(args: argparse.Namespace) -> None:
    run = configured_run(args, TokenizerRun())
    if args.preset is not None:
        run = replace(run, model=TOKENIZER_PRESETS[args.preset])
    run = chosen_run(args, run)
    if run.start_from is not None:
        load_config(Path(run.start_from), TokenizerConfig)
    if run.recipe.perceptual_weight:
        PerceptualLoss()  # raises ValueError if its package is missing, before clips are decoded
    # One process decodes; the others then read its files.
    with _accelerator(args, run.train).main_process_first():
        keep_run(run, args.run_folder)
        keep_sources({"clips": args.clips, "photos": args.photos}, args.run_folder)
        cache = args.run_folder / "frames"
        val, train = (load_clips(args.clips, split, cache).frames_NTHWC for split in VAL_FIRST)
    photos = None
    if args.photos is not None and run.photo_clips:
        photos = PhotoClips(args.photos, max_pace=MAX_PACE).render(run.photo_clips)
    _show(
        train_tokenizer(
            run.model,
            run.recipe,
            run.train,
            args.run_folder,
            train,
            val,
            photos,
            device=args.device,
            start_from=None if run.start_from is None else Path(run.start_from),
        ),
        args.run_folder,
    )


@refusing
def _train_transformer(args: argparse.Namespace) -> None:
    run = configured_run(args, TransformerRun())
    if args.size is not None:
        run = replace(run, model=run.model.sized(args.size))
    run = chosen_run(args, run)
    if args.limit is not None:
        run = replace(run, clips_of_an_action=args.limit)
    if args.stock_weight is not None:
        looks = dict(run.recipe.look_weights) | {STOCK: args.stock_weight}
        run = replace(run, recipe=replace(run.recipe, look_weights=tuple(looks.items())))
    accelerator = _accelerator(args, run.train)
    tokenizer: VideoTokenizer | CosmosTokenizer
    if is_cosmos(args.tokenizer):
        tokenizer = CosmosTokenizer.from_folder(args.tokenizer, device=args.device)
        fingerprint = cosmos_sha256(args.tokenizer)
        reference = {"cosmos": fingerprint}
    else:
        tokenizer = VideoTokenizer.from_pretrained(args.tokenizer, device=args.device)
        fingerprint = weights_sha256(args.tokenizer)
        place = name_of_folder(args.run_folder / "model", args.tokenizer)
        reference = {"folder": place, "sha256": fingerprint}
    _check_run(args, run, tokenizer.config)
    with accelerator.main_process_first():
        keep_run(run, args.run_folder)
        folders = {
            "clips": args.clips,
            "photos": args.photos,
            "panoramas": args.panoramas,
            "arm-keys": args.arm_keys,
        }
        sources = keep_sources(folders, args.run_folder, tokenizer=fingerprint)
        source = json.dumps([sources, run.photo_clips, run.key_clips, run.clips_of_an_action])
        val, train = (_token_sets(args, run, tokenizer, fingerprint, source, s) for s in VAL_FIRST)
    is_stock = any(STOCK in tokens.looks for tokens in train.values())
    if args.stock_weight is not None and not is_stock:
        raise ValueError(f"--stock-weight: none of the clips has the look {STOCK!r}")
    actions, keys = ordered_actions(train[CLIPS_SOURCE].actions), _keys(train)
    if run.model.frame_conditions:
        actions = (*actions, *(move for move in CAMERA_MOVES if move not in actions))
    _show(
        train_transformer(
            run.model.config(tokenizer.config.codebook_size, actions, keys),
            run.recipe,
            run.train,
            args.run_folder,
            train,
            val,
            reference,
            device=args.device,
            start_from=None if run.start_from is None else Path(run.start_from),
            prompts=args.prompts,
            levels=tokenizer.config.levels,
        ),
        args.run_folder,
    )


def _check_run(args: argparse.Namespace, run: TransformerRun, tokenizer: TokenGridConfig) -> None:
    """Raises ValueError for a model that does not fit the tokenizer, its blocks or its clips, and
    for first weights that are missing or do not fit, before clips are encoded."""
    found, expected = tokenizer.grid(CLIP_FRAMES, CLIP_SIDE, CLIP_SIDE), run.model.grid
    if found[1:] != expected[1:]:
        raise ValueError(
            f"the tokenizer cuts a clip into a grid of {format_block_shape(found)} tokens, and the "
            f"model has one of {format_block_shape(expected)}: set model.grid and "
            "model.block_shape, and recipe.shapes with their shape_weights, in --config"
        )
    has_keys = args.arm_keys is not None or args.panoramas is not None
    if has_keys and tokenizer.time_factor != FRAMES_PER_KEY:
        raise ValueError(
            f"a key lasts {FRAMES_PER_KEY} frames, and a latent frame of the tokenizer"
            f" {tokenizer.time_factor}: clips that answer to keys need equal ones"
        )
    config = run.model.config(tokenizer.codebook_size, (), (STILL,) if has_keys else ())
    run.recipe.check_blocks(config, found[0])
    if (run.model.conditions == "prompts") != (args.prompts is not None):
        raise ValueError("--prompts and a model whose conditions are class prompts go together")
    if args.prompts is not None:
        prompt_ids(UCF101_CLASSES[0], args.prompts, config.prefix_len)
    if run.start_from is not None:
        check_start(load_config(Path(run.start_from), TransformerConfig), config)


@refusing
def _train_classifier(args: argparse.Namespace) -> None:
    settings = chosen_train(args, CLASSIFIER_TRAIN)
    with _accelerator(args, settings).main_process_first():
        keep_run(ClassifierRun(train=settings), args.run_folder, option=None)
        keep_sources({"clips": args.clips}, args.run_folder)
        cache = args.run_folder / "frames"
        val, train = (load_clips(args.clips, split, cache) for split in VAL_FIRST)
    actions = tuple(sorted(set(train.actions)))
    config = ClassifierConfig(name=printable_name(args.run_folder), actions=actions)
    _show(
        train_classifier(config, settings, args.run_folder, train, val, args.device),
        args.run_folder,
    )


@refusing
def _train_key_reader(args: argparse.Namespace) -> None:
    check_least(args, episodes=1)
    settings = chosen_train(args, READER_TRAIN)
    tokenizer = VideoTokenizer.from_pretrained(args.tokenizer, device=args.device)
    fingerprint = weights_sha256(args.tokenizer)
    counts = {"train": args.episodes, "val": max(1, args.episodes // VALIDATION_SHARE)}
    with _accelerator(args, settings).main_process_first():
        run = ClassifierRun(train=settings, episodes=args.episodes)
        keep_run(run, args.run_folder, option=None)
        folders = {"arm-keys": args.arm_keys}
        sources = keep_sources(folders, args.run_folder, tokenizer=fingerprint)
        made_of = json.dumps([sources, fingerprint, args.episodes])
        val, train = (
            load_key_pairs(
                args.run_folder / "frames" / f"{split}.npz",
                tokenizer,
                read_episodes(args.arm_keys, split, counts[split]),
                made_of,
                args.device,
            )
            for split in VAL_FIRST
        )
    config = key_reader_config(printable_name(args.run_folder))
    _show(
        train_classifier(config, settings, args.run_folder, train, val, args.device),
        args.run_folder,
    )


def _accelerator(args: argparse.Namespace, settings: TrainConfig) -> Accelerator:
    """The Accelerator of this process. Raises ValueError for a batch that cannot be shared."""
    accelerator = new_accelerator(args.device)
    check_parts(settings, accelerator.num_processes)
    return accelerator


def _token_sets(
    args: argparse.Namespace,
    run: TransformerRun,
    tokenizer: VideoTokenizer | CosmosTokenizer,
    fingerprint: str,
    source: str,
    split: Split,
) -> dict[str, TokenSet]:
    """The tokens of a split, each set encoded once per run: clips with camera moves, and the
    sources of clips that answer to keys, by name.

    fingerprint, source: fingerprints of the tokenizer and of the data.
    """

    def kept(name: str, encode: Callable[[], TokenSet]) -> TokenSet:
        return TokenSet.kept(args.run_folder / "tokens" / name, fingerprint, source, encode)

    clips = labelled_clips(
        args.clips, split, run.clips_of_an_action, args.photos, run.photo_clips, seed=0
    )
    found = {CLIPS_SOURCE: kept(split, lambda: encode_clips(tokenizer, clips, device=args.device))}
    for name, episodes in _key_sources(args, run, split).items():
        encode = partial(encode_key_clips, tokenizer, episodes, name, args.device)
        found[name] = kept(f"{split}-{name}", encode)
    return found


def _key_sources(
    args: argparse.Namespace, run: TransformerRun, split: Split
) -> dict[str, Iterator[KeyClip]]:
    """The sources of clips that answer to keys, by name."""
    if not run.model.frame_conditions:
        return {}
    is_train = split == "train"
    count = run.key_clips if is_train else min(run.key_clips, max(2, run.key_clips // 50))
    seed = SPLITS.index(split)
    sources: dict[str, Iterator[KeyClip]] = {}
    if args.photos is not None and count:
        sources[PHOTO_SOURCE] = draw_many(PhotoKeys(args.photos), count, KEYS_PER_CLIP, seed)
    if args.panoramas is not None and count:
        places = PanoramaKeys(args.panoramas)
        sources[PANORAMA_SOURCE] = draw_many(places, max(1, count // 2), KEYS_PER_CLIP, seed)
    if args.arm_keys is not None:
        folder = args.arm_keys
        sources[ARM_SOURCE] = (
            read_training_episodes(folder) if is_train else read_episodes(folder, split)
        )
    return sources


def _keys(train: dict[str, TokenSet]) -> tuple[str, ...]:
    """The names of keys that are not actions: those of the arm, and `still` of the camera."""
    arm = PLAYER_KEYS if "arm-keys" in train else ()
    camera = (STILL,) if train.keys() & {PHOTO_SOURCE, PANORAMA_SOURCE} else ()
    return (*arm, *camera)


def _show(steps: Iterator[TrainStep], run_folder: Path) -> None:
    """Shows a progress bar on stderr, and each validation on a line of its own; for a run without
    steps one sentence."""
    style = "{l_bar}{bar}| {elapsed} {postfix}"
    is_silent = not PartialState().is_main_process
    step = None
    with tqdm(total=100, unit="%", bar_format=style, disable=is_silent) as bar:
        for step in steps:
            bar.update(100 * step.progress - bar.n)
            bar.set_postfix(step=step.step, loss=f"{step.metrics['loss']:.4f}", refresh=False)
            validation = {k: v for k, v in step.metrics.items() if k.startswith("val_")}
            if validation and not is_silent:
                bar.write(json.dumps({"step": step.step, **validation}), file=None)
        bar.leave = step is not None
    if step is None and not is_silent:
        last = last_step(run_folder)
        at = "" if last is None else f" at step {last:,}"
        print(
            f"{run_folder} is finished{at}; a larger --steps or --minutes continues it",
            file=sys.stderr,
        )
