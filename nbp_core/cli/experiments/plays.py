"""The experiments that play: `endless` (random keys for long) and `play-blocks` (block shapes).

Both start from real episodes and add their rows to a results file, one unit of work at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nbp_core.blocks.steps import sequence_plan
from nbp_core.cli.evaluate import CAMERA_EPISODE_KEYS, CAMERA_SEED, check_grid, frame_networks
from nbp_core.cli.options import (
    add_file_options,
    add_loading_options,
    add_sampling_options,
    measured_with,
    named_weights,
    pipeline_of,
    report_head,
    results_file,
    sampling_of,
    say,
)
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import Size3, parse_block_shape
from nbp_core.data.arm_keys import read_episodes
from nbp_core.data.camera_keys import PanoramaKeys, draw_many
from nbp_core.device import choose_device, device_name
from nbp_core.evaluation.classifier import ActionClassifier
from nbp_core.experiments.endless import SETTINGS, EndlessBench, endless
from nbp_core.experiments.experiment import Rows
from nbp_core.experiments.play_blocks import BLOCKS, PlayBench, play_blocks
from nbp_core.generation.offer import checked_keys
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.recording import World
from nbp_core.results.growing import Report, earlier, keep, remaining

ENDLESS_TITLE = "Random keys for a minute and more, by setting"
BLOCKS_TITLE = "Block shapes of a play: loss, obedience and time when the key is known"


def add_names(names: Any) -> None:
    """Adds the experiments to the verb `experiment`."""
    parser = names.add_parser("endless", help=ENDLESS_TITLE)
    _add_play_options(parser, is_arm_required=True)
    parser.add_argument(
        "--count", type=int, default=10,
        help="number of plays per setting; Frechet distances need two or more; default: 10",
    )  # fmt: skip
    parser.add_argument(
        "--num-keys", type=int, default=240,
        help="number of keys, four per second, one per latent frame; default: 240",
    )  # fmt: skip
    parser.add_argument(
        "--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="NAME",
        help=f"settings to compare: {', '.join(SETTINGS)}; default: all".replace("%", "%%"),
    )  # fmt: skip
    parser.add_argument("--block", help="block shape, such as 1x1x16; default: the model's own")
    parser.set_defaults(run=_endless)

    parser = names.add_parser("play-blocks", help=BLOCKS_TITLE)
    _add_play_options(parser, is_arm_required=False)
    parser.add_argument(
        "--panoramas",
        type=Path,
        help="folder of panoramas, to play camera keys instead of the arm's",
    )
    parser.add_argument(
        "--count", type=int, default=40, help="number of episodes to play; default: 40"
    )
    parser.add_argument(
        "--blocks", nargs="+", choices=BLOCKS, default=list(BLOCKS), metavar="BLOCK",
        help=f"block shapes to compare: {', '.join(BLOCKS)}; default: all",
    )  # fmt: skip
    parser.set_defaults(run=_play_blocks, block=None)


def _add_play_options(parser: argparse.ArgumentParser, is_arm_required: bool) -> None:
    parser.add_argument("--model", type=Path, required=True, help="folder of a model with keys")
    parser.add_argument(
        "--arm-keys", type=Path, required=is_arm_required,
        help="folder of episodes (`data arm-keys`) to start from",
    )  # fmt: skip
    parser.add_argument(
        "--key-reader", type=Path, required=is_arm_required,
        help="folder of a model that reads keys (`train-key-reader`)",
    )  # fmt: skip
    add_sampling_options(parser)
    add_loading_options(parser)
    add_file_options(parser)


def _endless(args: argparse.Namespace) -> None:
    if args.count < 1 or args.num_keys < 4:
        raise ValueError("--count must be at least 1 and --num-keys at least 4")
    sampling = sampling_of(args)
    out = results_file(args)
    device = choose_device(args.device)
    pipeline = _player(args, "arm", [sampling.block_shape])
    sampling = sampling.guided(pipeline.key_guidance)
    networks, notes = frame_networks(device) if args.count > 1 else ([], [])
    bench = EndlessBench(
        pipeline=pipeline,
        reader=ActionClassifier.from_pretrained(args.key_reader, device=device),
        episodes=list(read_episodes(args.arm_keys, "val", args.count)),
        num_keys=args.num_keys,
        sampling=sampling,
        networks=networks,
    )
    report = _report(args, pipeline, sampling, ENDLESS_TITLE, "longer") | {
        "num_keys": args.num_keys,
        "real": f"val episodes of {args.arm_keys.name}",
        "notes": "; ".join(notes),
    }
    _grow(args, out, report, args.settings, partial(endless, bench), args.num_keys, "key")


def _play_blocks(args: argparse.Namespace) -> None:
    if args.count < 1:
        raise ValueError("--count must be at least 1")
    if (args.arm_keys is None) != (args.key_reader is None):
        raise ValueError("--arm-keys and --key-reader go together")
    if (args.arm_keys is None) == (args.panoramas is None):
        raise ValueError("give either --arm-keys and --key-reader, or --panoramas")
    sampling = sampling_of(args)
    out = results_file(args)
    world: World = "camera" if args.arm_keys is None else "arm"
    pipeline = _player(args, world, map(parse_block_shape, args.blocks))
    sampling = sampling.guided(pipeline.key_guidance)
    if world == "arm":
        episodes = read_episodes(args.arm_keys, "val", args.count)
        reader = ActionClassifier.from_pretrained(args.key_reader, device=pipeline.device)
        real = f"val episodes of {args.arm_keys.name}"
    else:
        places = PanoramaKeys(args.panoramas)
        episodes = draw_many(places, args.count, CAMERA_EPISODE_KEYS, CAMERA_SEED)
        reader, real = None, f"views of {args.panoramas.name}"
    bench = PlayBench(
        pipeline=pipeline, world=world, episodes=list(episodes), sampling=sampling, reader=reader
    )
    report = _report(args, pipeline, sampling, BLOCKS_TITLE, "blocks") | {"real": real, "notes": ""}
    _grow(args, out, report, args.blocks, partial(play_blocks, bench), args.count, "episode")


def _player(
    args: argparse.Namespace, world: World, shapes: Iterable[Size3 | None]
) -> VideoPipeline:
    """The model that the options name. Raises ValueError if it has no keys for the world, or cannot
    play in these block shapes what is compared with real episodes."""
    pipeline = pipeline_of(args)
    checked_keys(pipeline.config, world)
    check_grid(pipeline.grid, pipeline.tokens)
    for shape in shapes:
        sequence_plan(pipeline.config, shape)
    pipeline.decoder.wait_until_ready()
    return pipeline


def _report(
    args: argparse.Namespace,
    pipeline: VideoPipeline,
    sampling: SamplingConfig,
    title: str,
    kind: str,
) -> Report:
    return {
        **report_head(title, kind, device_name(pipeline.device)),
        **named_weights(pipeline),
        "sampling": sampling.to_dict() | {"block_shape": args.block},
        "count": args.count,
        **measured_with(args),
        "done": "",
        "rows": [],
    }


def _grow(
    args: argparse.Namespace,
    out: Path,
    report: Report,
    units: Sequence[str],
    rows_of: Callable[[str, Callable[[int], object]], Rows],
    parts: int,
    part: str,
) -> None:
    """Adds the rows of each unit that is not in the file yet, and prints the report.

    rows_of(unit, on_part) calls on_part with the number of parts of the unit that were done, for
    the progress bar.
    """
    report = earlier(out, report) or report
    todo = remaining(report, units)
    with tqdm(total=len(todo) * parts, unit=part, disable=args.json) as bar:
        for unit in todo:
            keep(out, report, unit, rows_of(unit, bar.update))
    say(args, out, report)
