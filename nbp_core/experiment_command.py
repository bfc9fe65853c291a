"""The verb `experiment`: one of the experiments, gone on with where an earlier run ended."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nbp_core.command_options import add_sampling_options, sampling_of
from nbp_core.config import SamplingConfig
from nbp_core.device import choose_device, device_name
from nbp_core.evaluate_command import add_judge_options, real_clips, settings, tools_of
from nbp_core.experiment import Bench
from nbp_core.experiments import EXPERIMENTS
from nbp_core.judge import Judge, reconstruct_many
from nbp_core.media_files import replacing
from nbp_core.pipeline import VideoPipeline

RESULTS = Path("results")


def add_verb(verbs: Any) -> None:
    """Adds the verb to the command line's parser."""
    parser = verbs.add_parser("experiment", help="repeat one of the paper's experiments, small")
    parser.add_argument("name", choices=sorted(EXPERIMENTS))
    parser.add_argument("--model", type=Path, required=True, help="folder of an elastic model")
    add_judge_options(parser)
    add_sampling_options(parser)
    parser.add_argument("--out", type=Path, help="file to write; default: results/NAME.json")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=_experiment)


def _experiment(args: argparse.Namespace) -> None:
    experiment = EXPERIMENTS[args.name]
    sampling = sampling_of(args, None)
    out = args.out or RESULTS / f"{args.name}.json"
    if args.out is None:
        RESULTS.mkdir(exist_ok=True)
    elif not out.parent.is_dir():
        raise ValueError(f"the folder of {out.name} does not exist: {out.parent}")
    device = choose_device(args.device)
    pipeline = VideoPipeline.from_pretrained(args.model, device=device, cosmos=args.cosmos)
    if pipeline.transformer.config.layout != "elastic":
        raise ValueError(f"model {pipeline.name!r} knows one block shape; experiments need several")
    tools, notes = tools_of(args, device)
    report: dict[str, Any] = {
        "title": experiment.title,
        "kind": experiment.kind,
        "date": date.today().isoformat(),
        "command": " ".join(["python -m nbp_core", *sys.argv[1:]]),
        "device": device_name(device),
        **settings(args, pipeline, sampling),
        "count": args.count,
        "real": f"{args.split} clips of {args.clips.name}",
        "notes": "; ".join(notes),
        "done": "",
        "baselines": [],
        "rows": [],
    }
    del report["block"]  # each row says its own
    report = _earlier(out, report) or report
    todo = [unit for unit in experiment.units if unit not in report["done"].split("; ")]
    if todo:
        bench = _bench(args, pipeline, Judge.of(real_clips(args), args.count, tools), sampling)
        if experiment.has_baselines and not report["baselines"]:
            figures = bench.judge.baselines(pipeline.tokenizer, device)
            report["baselines"] = [figure.to_row() for figure in figures]
        for unit in tqdm(todo, desc=args.name, disable=args.json):
            report["rows"] += experiment.rows(bench, unit)
            report["done"] = "; ".join(filter(None, [report["done"], unit]))
            with replacing(out) as partial:
                partial.write_text(json.dumps(report, indent=1) + "\n")
    if args.json:
        print(json.dumps(report))
    else:
        print(f"{out}: {len(report['rows'])} rows", file=sys.stderr)


def _bench(
    args: argparse.Namespace, pipeline: VideoPipeline, judge: Judge, sampling: SamplingConfig
) -> Bench:
    real, _ = reconstruct_many(pipeline.tokenizer, judge.held, pipeline.device)
    judge.token_side = pipeline.tokenizer.config.space_factor
    return Bench(
        pipeline=pipeline,
        judge=judge,
        real=real,
        count=args.count,
        context_frames=args.context_frames,
        batch_size=args.batch_size,
        sampling=sampling,
    )


def _earlier(out: Path, report: dict[str, Any]) -> dict[str, Any] | None:
    """What an earlier run of the same settings has left, if there is any.

    Raises ValueError for a file that is something else: it is not overwritten.
    """
    if not out.is_file():
        return None
    try:
        found = json.loads(out.read_text())
    except ValueError as error:
        raise ValueError(f"{out.name} is there and is not JSON; move it away first") from error
    varying = {"date", "command", "done", "baselines", "rows"}
    for key in report.keys() - varying:
        if not isinstance(found, dict) or found.get(key) != report[key]:
            raise ValueError(
                f"{out.name} is there, of another {key}; move it away or name another with --out"
            )
    return dict(found)
