"""The verb `evaluate`: measures the quality of a model's clips, or of a folder of clips."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from nbp_core.cli.options import (
    SAMPLING,
    Fewer,
    add_loading_options,
    add_sampling_options,
    check_least,
    named_weights,
    pipeline_of,
    refuse,
    report_head,
    sampling_of,
    write_report,
)
from nbp_core.config.models import TokenGridConfig
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import CLIP_FRAMES, CLIP_SIDE, Size3, format_block_shape
from nbp_core.data.arm_keys import read_episodes
from nbp_core.data.camera_keys import PanoramaKeys, draw_many
from nbp_core.data.camera_moves import MAX_PACE, PhotoClips
from nbp_core.data.clips import load_clips, open_clips
from nbp_core.device import choose_device, device_name
from nbp_core.evaluation import metrics
from nbp_core.evaluation.classifier import ActionClassifier
from nbp_core.evaluation.contact_sheet import write_contact_sheet
from nbp_core.evaluation.features import FeatureNetwork, I3DFeatures, Lite0Features
from nbp_core.evaluation.figures import LEAST_CLIPS, Clips, Figure, fidelity_figures
from nbp_core.evaluation.judge import GENERATED, REAL, Judge, Tools, reconstruct_many
from nbp_core.evaluation.keys import arm_figures, camera_figures, play_episodes
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.media.files import printable_name, try_writing

PHOTO_CLIPS = 40
EPISODES = 40
CAMERA_EPISODE_KEYS = 8
"""Keys per episode in a panorama."""
CAMERA_SEED = 77
"""Seed of the episodes in panoramas; training uses other seeds."""
FRAMES_CACHE = Path("runs/frames")
JUDGES = ("--classifier", "--i3d", "--fvd-side", "--memorisation")
"""Options of add_judge_options that name how clips are judged."""


def add_verb(verbs: Any) -> None:
    """Adds the verb to the command line's parser."""
    parser = verbs.add_parser(
        "evaluate", help="measure the quality of a model's clips against real clips"
    )
    parser.add_argument("--model", type=Path, help="folder of a transformer")
    parser.add_argument(
        "--generated", type=Path, help="folder of clips to measure instead of new clips of --model"
    )
    add_judge_options(parser, required=False)
    add_key_options(parser)
    parser.add_argument("--block", help="block shape, such as 1x1x16; default: the model's own")
    add_sampling_options(parser)
    add_loading_options(parser)
    parser.add_argument(
        "--photos",
        type=Path,
        help="folder of pictures; the reconstruction of camera moves over them is measured too",
    )
    parser.add_argument(
        "--sheet", type=Path, metavar="FILE.png", help="write a contact sheet of 20 clips"
    )
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=_evaluate, default=parser.get_default)


def add_judge_options(parser: argparse.ArgumentParser | Fewer, required: bool = True) -> None:
    """Adds options: the real clips, the number of generated clips, and the measuring models."""
    parser.add_argument(
        "--clips", type=Path, required=required, help="folder of real clips: shards or videos"
    )
    parser.add_argument(
        "--split", choices=("val", "train"), default="val", help="split of --clips; default: val"
    )
    parser.add_argument(
        "--cache", type=Path, default=FRAMES_CACHE,
        help=f"folder for decoded clips; default: {FRAMES_CACHE}",
    )  # fmt: skip
    parser.add_argument(
        "--count", type=int, default=100, help="number of clips to generate; default: 100"
    )
    parser.add_argument(
        "--context-frames",
        type=int,
        default=0,
        help="known frames taken from the start of each real clip: 0, 1, 5, ...; default: 0",
    )
    parser.add_argument(
        "--batch-size", type=int, default=16, help="clips generated at once; default: 16"
    )
    parser.add_argument("--classifier", type=Path, help="folder of a trained action classifier")
    parser.add_argument(
        "--i3d", type=Path, metavar="FILE",
        help="your i3d_torchscript.pt, WHICH RUNS CODE, for FVD; any other file is refused",
    )  # fmt: skip
    parser.add_argument(
        "--fvd-side", type=int, metavar="PIXELS",
        help="reduce frames to this side for FVD (the paper on K600: 64)",
    )  # fmt: skip
    parser.add_argument(
        "--memorisation",
        action="store_true",
        help="measure the distance to the nearest training clip",
    )


def add_key_options(parser: argparse.ArgumentParser) -> None:
    """Adds options: the episodes whose keys the model plays, and the network that reads them."""
    parser.add_argument(
        "--arm-keys", type=Path, help="folder of episodes (`data arm-keys`) whose keys are played"
    )
    parser.add_argument(
        "--arm-split", choices=("val", "recorded"), default="val",
        help="split of --arm-keys; recorded: episodes kept apart for comparison with plays; "
        "default: val",
    )  # fmt: skip
    parser.add_argument(
        "--key-reader", type=Path, help="folder of a model that reads keys (`train-key-reader`)"
    )
    parser.add_argument(
        "--panoramas", type=Path, help="folder of panoramas, in which camera keys are played"
    )
    parser.add_argument(
        "--episodes", type=int, default=EPISODES,
        help=f"number of episodes to play in each world; default: {EPISODES}",
    )  # fmt: skip


def tools_of(args: argparse.Namespace, device: str) -> tuple[Tools, list[str]]:
    """(the measuring models that the options name, a sentence for each one that is missing).

    Raises ValueError for a file or folder that cannot be used.
    """
    check_least(args, count=2, batch_size=1, context_frames=0)
    if args.fvd_side is not None:
        check_least(args, fvd_side=1)
    networks, notes = frame_networks(device)
    if args.i3d is None:
        notes.append("FVD is not measured: it needs your own i3d_torchscript.pt (--i3d FILE)")
    else:
        networks.append(I3DFeatures(args.i3d, device, args.fvd_side))
    classifier = None
    if args.classifier is not None:
        classifier = ActionClassifier.from_pretrained(args.classifier, device=device)
    train_MD = None
    if args.memorisation:
        train_MD = metrics.small(load_clips(args.clips, "train", args.cache).frames_NTHWC)
    return Tools(networks=networks, classifier=classifier, train_MD=train_MD), notes


def frame_networks(device: str) -> tuple[list[FeatureNetwork], list[str]]:
    """(the network for Frechet distances, or none; a sentence if its packages are missing)."""
    try:
        return [Lite0Features(device)], []
    except ValueError as error:
        return [], [str(error)]


def real_clips(args: argparse.Namespace) -> Clips:
    """Decodes the real clips that the options name. Raises ValueError for too few of them."""
    found = load_clips(args.clips, args.split, args.cache)
    if len(found) < LEAST_CLIPS:
        is_val = args.split == "val"
        kind, way_out = ("validation", ", or give --split train") if is_val else ("training", "")
        raise ValueError(
            f"{printable_name(args.clips)} has too few {kind} clips ({len(found)}): an evaluation "
            f"needs at least {LEAST_CLIPS}; add clips{way_out}"
        )
    return Clips(
        name=REAL, frames_NTHWC=found.frames_NTHWC, actions=found.actions, looks=found.looks
    )


def check_grid(grid: Size3, tokenizer: TokenGridConfig) -> Size3:
    """The grid of a real clip. Raises ValueError for a model whose frames have another one."""
    real = tokenizer.grid(CLIP_FRAMES, CLIP_SIDE, CLIP_SIDE)
    if grid[1:] != real[1:]:
        raise ValueError(
            f"the model has a grid of {format_block_shape(grid)} tokens, and real clips have one of"
            f" {format_block_shape(real)} with its tokenizer: they cannot be compared"
        )
    return real


def _evaluate(args: argparse.Namespace) -> None:
    sampling = sampling_of(args)
    _check_options(args)
    device = choose_device(args.device)
    pipeline, about = None, {"weights": "none: clips of a folder"}
    figures: list[Figure] = []
    notes: list[str] = []
    if args.model is not None:
        pipeline = pipeline_of(args)
        check_grid(pipeline.grid, pipeline.tokens)
        if args.clips is not None and args.generated is None:
            _check_clips(pipeline, sampling, args.context_frames)
        about = settings(args, pipeline, sampling)
        figures += _key_figures(args, pipeline, sampling)
    if args.clips is not None:
        found, clips, notes = _clip_figures(args, pipeline, sampling, device)
        figures += found
        if args.sheet is not None:
            write_contact_sheet(args.sheet, clips.frames_NTHWC, clips.actions, json.dumps(about))
    report = {
        **report_head("Clips against real ones", "evaluation", device_name(device)),
        **about,
        "real": "; ".join(_real_names(args)),
        "notes": "; ".join(notes),
        "rows": [figure.to_row() for figure in figures],
    }
    write_report(args.out, report)
    if args.json:
        print(json.dumps(report))
        return
    Console(stderr=True).print(figure_table(figures))
    for note in notes:
        print(f"{note}.", file=sys.stderr)


def _check_options(args: argparse.Namespace) -> None:
    """Raises ValueError for options that do not go together, MediaError for outputs that cannot be
    written."""
    is_of_keys = args.arm_keys is not None or args.panoramas is not None
    if args.model is None and args.generated is None:
        raise ValueError("give --model to generate clips, or --generated with a folder of clips")
    if args.model is None and is_of_keys:
        raise ValueError("--arm-keys and --panoramas need --model, which plays their keys")
    if args.clips is None and not is_of_keys:
        raise ValueError("give real clips to compare with: --clips, --arm-keys or --panoramas")
    check_least(args, count=2, batch_size=1, context_frames=0, episodes=1)
    generation = ("--count", "--context-frames", "--batch-size")
    if args.clips is None:
        refuse(args, "without --clips", "--generated", "--sheet", "--photos", "--split", "--cache",
               *generation, *JUDGES)  # fmt: skip
    if args.model is None:
        refuse(args, "without --model", "--photos", "--int8", "--int4", "--cosmos")
    if args.generated is not None:
        is_alone = () if is_of_keys else ("--block", *SAMPLING)
        refuse(args, "on the clips of --generated", *generation, *is_alone)
    if args.i3d is None:
        refuse(args, "without --i3d", "--fvd-side")
    if args.arm_keys is None:
        refuse(args, "without --arm-keys", "--arm-split")
    if not is_of_keys:
        refuse(args, "without --arm-keys or --panoramas", "--episodes")
    if (args.arm_keys is None) != (args.key_reader is None):
        raise ValueError("--arm-keys and --key-reader go together")
    for path in (args.out, args.sheet):
        if path is not None and not path.parent.is_dir():
            raise ValueError(f"the folder of {path.name} does not exist: {path.parent}")
        if path is not None:
            try_writing(path)


def _check_clips(pipeline: VideoPipeline, sampling: SamplingConfig, context_frames: int) -> None:
    """Raises ValueError if the model cannot make clips with these settings."""
    if pipeline.needs_context and context_frames == 0:
        raise ValueError(
            f"model {pipeline.name!r} can only continue frames: give --context-frames, such as 5"
        )
    pipeline.num_steps(sampling.block_shape or pipeline.config.block_shape, context_frames)


def _real_names(args: argparse.Namespace) -> list[str]:
    """The names of the real clips that others are compared with, for the report."""
    names = []
    if args.clips is not None:
        names.append(f"{args.split} clips of {args.clips.name}")
    if args.arm_keys is not None:
        names.append(f"{args.arm_split} episodes of {args.arm_keys.name}")
    if args.panoramas is not None:
        names.append(f"views of {args.panoramas.name}")
    return names


def _clip_figures(
    args: argparse.Namespace,
    pipeline: VideoPipeline | None,
    sampling: SamplingConfig,
    device: str,
) -> tuple[list[Figure], Clips, list[str]]:
    """(figures of clips, the clips that were judged, notes on what was not measured)."""
    tools, notes = tools_of(args, device)
    given = None if args.generated is None else _given_clips(args.generated)
    judge = Judge.of(real_clips(args), args.count if given is None else len(given), tools)
    figures = []
    is_quiet = args.json or pipeline is None
    with tqdm(desc="reconstructing", unit="clip", disable=is_quiet) as bar:
        figures += judge.baselines(pipeline.tokenizer if pipeline else None, device, bar.update)
    if pipeline is not None and args.photos is not None:
        figures += _photo_figures(pipeline, args.photos)
    clips = given
    if clips is None:
        assert pipeline is not None
        with tqdm(total=args.count, desc="generating", unit="clip", disable=args.json) as bar:
            clips, _ = judge.generate(
                pipeline, args.count, args.context_frames, sampling, args.batch_size, bar.update
            )
    figures += judge.figures(clips, paired=given is None and args.context_frames > 0)
    return figures, clips, notes


def _key_figures(
    args: argparse.Namespace, pipeline: VideoPipeline, sampling: SamplingConfig
) -> list[Figure]:
    """Figures of the episodes that the model plays in each world that the options name."""
    figures: list[Figure] = []
    is_quiet = args.json or (args.arm_keys is None and args.panoramas is None)
    with tqdm(desc="playing", unit="episode", disable=is_quiet) as bar:
        if args.arm_keys is not None:
            reader = ActionClassifier.from_pretrained(args.key_reader, device=pipeline.device)
            clips = read_episodes(args.arm_keys, args.arm_split, args.episodes)
            episodes = play_episodes(pipeline, clips, "arm", sampling, bar.update)
            figures += arm_figures(reader, episodes)
        if args.panoramas is not None:
            places = PanoramaKeys(args.panoramas)
            views = draw_many(places, args.episodes, CAMERA_EPISODE_KEYS, CAMERA_SEED)
            figures += camera_figures(
                play_episodes(pipeline, views, "camera", sampling, bar.update)
            )
    return figures


def settings(
    args: argparse.Namespace, pipeline: VideoPipeline, sampling: SamplingConfig
) -> dict[str, Any]:
    """The settings of generation, for the report; for a model with keys also those of its plays."""
    shape = sampling.block_shape or pipeline.config.block_shape
    of_keys = {"key_guidance": sampling.guided(pipeline.key_guidance).guidance}
    return {
        **named_weights(pipeline),
        "block": format_block_shape(shape),
        "context_frames": args.context_frames,
        "batch_size": args.batch_size,
        "sampling": sampling.guided(1).for_manifest(),
        **(of_keys if pipeline.worlds else {}),
    }


def _given_clips(folder: Path) -> Clips:
    """All clips of a folder, from both splits."""
    records = list(open_clips(folder, None))
    frames = np.stack([record.frames_THWC for record in records])
    return Clips(name=GENERATED, frames_NTHWC=frames, actions=[record.action for record in records])


def _photo_figures(pipeline: VideoPipeline, folder: Path) -> list[Figure]:
    moves = list(PhotoClips(folder, seed=1, max_pace=MAX_PACE).draw_many(PHOTO_CLIPS))
    photos = Clips(
        name="photographs",
        frames_NTHWC=np.stack([frames for frames, _ in moves]),
        actions=[move for _, move in moves],
    )
    return fidelity_figures(*reconstruct_many(pipeline.tokenizer, photos, pipeline.device))


def figure_table(figures: Sequence[Figure]) -> Table:
    """The figures as a table for the terminal."""
    table = Table()
    for name in ("metric", "of", "value", "clips", "against"):
        table.add_column(name, justify="right" if name in ("value", "clips") else "left")
    for figure in figures:
        value = f"{figure.value:.4g}"
        if figure.deviation is not None:
            value += f" +- {figure.deviation:.2g}"
        if figure.unit is not None:
            value += f" {figure.unit}"
        table.add_row(figure.metric, figure.of, value, str(figure.clips), figure.against or "")
    return table
