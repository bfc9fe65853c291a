"""The verbs of training: data, train-all, and the verbs of a single run."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nbp_core.cli import train
from nbp_core.cli.options import check_least
from nbp_core.cli.train_options import refusing
from nbp_core.data.arm_keys import ARM_SCENES, ARM_SPLITS, EPISODES_PER_SCENE, render_arm_keys
from nbp_core.data.metaworld import render
from nbp_core.train.everything import PLANS, Sources, train_all
from nbp_core.train.loop.trainer import new_accelerator
from nbp_core.train.run_config import read_over


def add_verbs(verbs: Any) -> None:
    """Adds the training verbs to the command line's parser."""
    data = verbs.add_parser("data", help="make clips to train on")
    sources = data.add_subparsers(required=True, metavar="SOURCE")
    metaworld = sources.add_parser("metaworld", help="render clips of 50 robot-arm actions")
    _add_render_options(metaworld, ("train", "val"))
    metaworld.add_argument(
        "--clips", type=int, default=160, help="number of clips per action; default: 160"
    )
    metaworld.add_argument(
        "--actions", nargs="+", help="names of actions to render; default: all 50"
    )
    metaworld.set_defaults(run=_metaworld)
    arm_keys = sources.add_parser("arm-keys", help="render episodes of an arm moved by keys")
    _add_render_options(
        arm_keys, ARM_SPLITS,
        "; recorded: kept apart for comparison with plays; bounds: keys press the arm against the "
        "limits of its reach",
    )  # fmt: skip
    arm_keys.add_argument(
        "--shards", type=int, default=50,
        help=f"number of shards, of {EPISODES_PER_SCENE} episodes per scene each; default: 50",
    )  # fmt: skip
    arm_keys.add_argument(
        "--scenes", nargs="+", default=ARM_SCENES,
        help="names of scenes to render; default: all ten",
    )  # fmt: skip
    arm_keys.set_defaults(run=_arm_keys)

    train.add_verbs(verbs)

    everything = verbs.add_parser(
        "train-all", help="train the tokenizer and both transformers, then make samples"
    )
    everything.add_argument("--clips", type=Path, required=True, help="folder of shards or videos")
    everything.add_argument("--photos", type=Path, help="folder of pictures for camera moves")
    everything.add_argument("--run", type=Path, required=True, dest="run_folder", help="run folder")
    everything.add_argument(
        "--minutes", type=float, required=True, help="time budget of the whole run"
    )
    everything.add_argument(
        "--plan", type=Path, help="JSON file of settings that replace the default plan's"
    )
    everything.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="device to train on; default: cpu"
    )
    everything.set_defaults(run=_train_all)


def _add_render_options(
    parser: argparse.ArgumentParser, splits: Sequence[str], explained: str = ""
) -> None:
    """Adds options: folder, split and seed of rendered shards. `explained`: what splits are for."""
    parser.add_argument("out", type=Path, help="folder for the shards")
    parser.add_argument(
        "--split", choices=splits, default="train",
        help=f"split to render{explained}; default: train",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the random numbers; default: 0"
    )


def _metaworld(args: argparse.Namespace) -> None:
    check_least(args, clips=1, seed=0)
    render(args.out, args.split, args.clips, args.seed, args.actions)


def _arm_keys(args: argparse.Namespace) -> None:
    check_least(args, shards=1, seed=0)
    render_arm_keys(args.out, args.split, args.shards, args.seed, tuple(args.scenes))


@refusing
def _train_all(args: argparse.Namespace) -> None:
    if new_accelerator(args.device).num_processes > 1:
        raise ValueError(
            "train-all runs in one process; with several, use train-tokenizer and train-transformer"
        )
    if not 0 < args.minutes < float("inf"):
        raise ValueError(f"--minutes must be a finite number above 0, not {args.minutes:g}")
    plan = PLANS[args.device]
    if args.plan is not None:
        plan = read_over(args.plan, plan)
    sources = Sources(args.clips, args.photos)
    for name, step in train_all(sources, args.run_folder, args.minutes, plan, args.device):
        validation = {k: v for k, v in step.metrics.items() if k.startswith("val_")}
        if validation:
            report = {"model": name, "step": step.step, **validation}
            tqdm.write(json.dumps(report), file=sys.stderr)
