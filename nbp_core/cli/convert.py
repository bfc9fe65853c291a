"""The verb `convert`: turns a released checkpoint into a model folder."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nbp_core.checkpoint import summarize
from nbp_core.cli.options import tell
from nbp_core.models.released.convert import DTYPES, FAMILIES, convert
from nbp_core.models.released.networks import Released


def add_verb(verbs: Any) -> None:
    """Adds the verb to the command line's parser."""
    parser = verbs.add_parser("convert", help="turn a released checkpoint into a model folder")
    parser.add_argument("file", type=Path, help="magvit2_*.pt or *_nbp16*.ckpt")
    parser.add_argument("out", type=Path, help="model folder to make, such as weights/ucf_base")
    parser.add_argument(
        "--dtype", choices=sorted(DTYPES), default="keep",
        help="precision to store; default: keep the file's own",
    )  # fmt: skip
    parser.add_argument(
        "--heads", type=int, help="number of attention heads, if the file does not contain it"
    )
    parser.add_argument(
        "--family", choices=FAMILIES, help="data set, if the file's name does not contain it"
    )
    parser.add_argument(
        "--tokenizer",
        metavar="FOLDER",
        help="for a transformer: the folder of its tokenizer, relative to the new folder; "
        "default: ../magvit2_ucf or ../magvit2_k600",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=_convert)


def _convert(args: argparse.Namespace) -> None:
    with tqdm(unit="B", unit_scale=True, disable=args.json) as bar:

        def start(model: Released) -> Callable[[int], object]:
            bar.total = model.num_bytes
            bar.set_description(f"{model.kind} {model.config.name}")
            return bar.update

        model = convert(
            args.file,
            args.out,
            dtype=DTYPES[args.dtype],
            num_heads=args.heads,
            family=args.family,
            tokenizer=args.tokenizer,
            on_start=start,
        )
    found = summarize(args.out)
    report = {
        "out": str(args.out),
        "kind": model.kind,
        "family": model.family,
        "parameters": found.num_parameters,
        "bytes": found.num_bytes,
        "config": model.config.to_dict(),
    }
    tell(
        args,
        report,
        f"{args.out}: {model.kind} of {found.num_parameters:,} parameters, "
        f"{found.num_bytes / 1e9:.2f} GB, data set {model.family or 'unknown'}",
    )
