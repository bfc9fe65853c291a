"""Options of a training run, and the settings that result from them and a config file."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from nbp_core.cli.options import no_empty_folder, refuse
from nbp_core.train.alone import alone
from nbp_core.train.loop.trainer import TrainConfig
from nbp_core.train.run_config import BUDGETS, RUN_FILE, SOURCES_FILE, RunT, is_begun, read_run


def add_train_options(parser: argparse.ArgumentParser, is_of_clips: bool = True) -> None:
    """Adds options: clips (unless the verb has none), run folder, budget, optimiser, device."""
    if is_of_clips:
        parser.add_argument(
            "--clips", type=Path, required=True,
            help="folder of tar shards, or of videos in one sub-folder per action",
        )  # fmt: skip
    parser.add_argument(
        "--run", type=Path, required=True, dest="run_folder",
        help="folder for checkpoint, log and model; a stopped run in it is continued",
    )  # fmt: skip
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, help="time budget in minutes")
    budget.add_argument("--steps", type=int, help="budget in training steps")
    parser.add_argument(
        "--lr", type=float, help="peak learning rate of AdamW, which trains vectors and embeddings"
    )
    parser.add_argument(
        "--muon-lr",
        type=float,
        help="peak learning rate of Muon, which trains the matrices; 0: use AdamW for all",
    )
    parser.add_argument("--batch-size", type=int, help="clips per step, over all processes")
    parser.add_argument("--accumulate", type=int, help="gradient accumulation steps per process")
    parser.add_argument(
        "--seed", type=int, help="seed of the random numbers; default: the config's, else 0"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="device to train on; default: cpu"
    )
    parser.set_defaults(config=None, default=parser.get_default)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of add_train_options and those of a run that may start from a config."""
    add_train_options(parser)
    parser.add_argument(
        "--config", type=Path, help="JSON file of settings; other options override it"
    )
    parser.add_argument("--name", help="name of the trained model")
    parser.add_argument("--photos", type=Path, help="folder of pictures for camera moves")
    parser.add_argument(
        "--photo-clips", type=int, help="number of camera-move clips made from --photos"
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        help="model folder with the first weights; a smaller transformer is enlarged, with "
        "the same logits at first",
    )


def refusing(train: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
    """A training verb that is alone in its run folder, and leaves no settings in it where it
    refuses a new run.

    Encoded clips stay, since another run in the folder can use them.
    """

    def run(args: argparse.Namespace) -> None:
        folder: Path = args.run_folder
        with no_empty_folder(folder), alone(folder):
            is_new = not (folder / RUN_FILE).exists()
            try:
                train(args)
            except ValueError:
                if is_new and not any(map(is_begun, (folder, *folder.glob("*")))):
                    for name in (RUN_FILE, SOURCES_FILE):
                        (folder / name).unlink(missing_ok=True)
                raise

    return run


def chosen_train(args: argparse.Namespace, default: TrainConfig) -> TrainConfig:
    """The budget and optimiser. Raises ValueError if neither options nor config name a budget."""
    changes: dict[str, Any] = {
        name: getattr(args, name)
        for name in ("lr", "muon_lr", "batch_size", "accumulate", "seed")
        if getattr(args, name) is not None
    }
    if args.muon_lr == 0:
        changes["muon_lr"] = None
    if args.minutes is not None or args.steps is not None:
        budget: dict[str, Any] = dict.fromkeys(BUDGETS) | {
            "minutes": args.minutes,
            "steps": args.steps,
        }
        return replace(default, **changes, **budget)
    if args.config is None:
        raise ValueError("give a budget: --minutes or --steps")
    return replace(default, **changes)


def configured_run(args: argparse.Namespace, default: RunT) -> RunT:
    """The run that the config file describes; without one, the default."""
    return default if args.config is None else read_run(args.config, default)


def chosen_run(args: argparse.Namespace, run: RunT) -> RunT:
    """The configured run with the options in place of its own settings.

    Raises ValueError for a number of camera moves without photographs.
    """
    if args.photos is None:
        refuse(args, "without --photos", "--photo-clips")
    return replace(
        run,
        train=chosen_train(args, run.train),
        model=run.model if args.name is None else replace(run.model, name=args.name),
        photo_clips=run.photo_clips if args.photo_clips is None else args.photo_clips,
        start_from=run.start_from if args.start_from is None else str(args.start_from),
    )
