"""The experiment `endless`: what a play under random keys becomes, by setting."""

from __future__ import annotations

import argparse
import sys
from datetime import date
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nbp_core.cli.evaluate import frame_networks
from nbp_core.cli.options import (
    add_file_options,
    add_sampling_options,
    pipeline_of,
    results_file,
    sampling_of,
    say,
)
from nbp_core.data.arm_keys import read_episodes
from nbp_core.device import choose_device, device_name
from nbp_core.evaluation.classifier import ActionClassifier
from nbp_core.experiments.endless import SETTINGS, EndlessBench, endless
from nbp_core.generation.offer import keys_of
from nbp_core.results.growing import Report, earlier, keep, remaining

NAME, TITLE = "endless", "Random keys for a minute and more, by setting"


def add_name(names: Any) -> None:
    """Adds the experiment to the verb `experiment`."""
    parser = names.add_parser(NAME, help=TITLE)
    parser.add_argument("--model", type=Path, required=True, help="folder of a model with keys")
    parser.add_argument(
        "--arm-keys", type=Path, required=True, help="folder of `data arm-keys`, for starts"
    )
    parser.add_argument(
        "--key-reader", type=Path, required=True, help="folder of a reader (train-key-reader)"
    )
    parser.add_argument(
        "--count", type=int, default=10,
        help="number of plays of each setting; Frechet distances need two or more",
    )  # fmt: skip
    parser.add_argument("--num-keys", type=int, default=240, help="latent frames; four a second")
    parser.add_argument(
        "--settings", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="NAME",
        help="settings to compare: " + ", ".join(name.replace("%", "%%") for name in SETTINGS),
    )  # fmt: skip
    parser.add_argument("--block", help="block shape, such as 1x1x16; default: the model's own")
    add_sampling_options(parser)
    add_file_options(parser)
    parser.set_defaults(run=_endless)


def _endless(args: argparse.Namespace) -> None:
    if args.count < 1 or args.num_keys < 4:
        raise ValueError("--count must be at least 1 and --num-keys at least 4")
    sampling = sampling_of(args)
    out = results_file(args)
    device = choose_device(args.device)
    pipeline = pipeline_of(args)
    if not keys_of(pipeline.config, "arm"):
        raise ValueError(f"model {pipeline.name!r} has no keys for the arm world")
    pipeline.decoder.wait_until_ready()
    networks, notes = frame_networks(device) if args.count > 1 else ([], [])
    bench = EndlessBench(
        pipeline=pipeline,
        reader=ActionClassifier.from_pretrained(args.key_reader, device=device),
        episodes=list(read_episodes(args.arm_keys, "val", args.count)),
        num_keys=args.num_keys,
        sampling=sampling,
        networks=networks,
    )
    report: Report = {
        "title": TITLE,
        "kind": "longer",
        "date": date.today().isoformat(),
        "command": " ".join(["python -m nbp_core", *sys.argv[1:]]),
        "device": device_name(device),
        "weights": f"{pipeline.name} {pipeline.identity['sha256'][:8]}",
        "tokenizer": f"{pipeline.tokenizer_name} {pipeline.identity['tokenizer_sha256'][:8]}",
        "sampling": sampling.to_dict() | {"block_shape": args.block},
        "count": args.count,
        "num_keys": args.num_keys,
        "real": f"val episodes of {args.arm_keys.name}",
        "notes": "; ".join(notes),
        "done": "",
        "rows": [],
    }
    report = earlier(out, report) or report
    todo = remaining(report, args.settings)
    with tqdm(total=len(todo) * args.num_keys, unit="key", disable=args.json) as bar:
        for name in todo:
            keep(out, report, name, endless(bench, name, bar.update))
    say(args, out, report)
