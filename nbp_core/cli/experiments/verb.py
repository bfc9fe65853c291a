"""The verb `experiment`: runs one experiment, or continues it where an earlier run ended."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nbp_core.blocks.steps import sequence_plan
from nbp_core.cli.evaluate import add_judge_options, check_grid, real_clips, settings, tools_of
from nbp_core.cli.experiments import plays, trained
from nbp_core.cli.options import (
    Fewer,
    add_file_options,
    add_loading_options,
    add_sampling_options,
    measured_with,
    pipeline_of,
    refuse,
    report_head,
    results_file,
    sampling_of,
    say,
)
from nbp_core.config.sampling import SamplingConfig
from nbp_core.device import choose_device, device_name
from nbp_core.evaluation.judge import Judge, reconstruct_many
from nbp_core.experiments.experiment import Bench
from nbp_core.experiments.registry import EXPERIMENTS
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.results.growing import earlier, keep, remaining


def add_verb(verbs: Any) -> None:
    """Adds the verb to the command line's parser."""
    verb = verbs.add_parser("experiment", help="repeat an experiment of the paper on a small scale")
    names = verb.add_subparsers(title="names", dest="name", required=True, metavar="NAME")
    for name, experiment in EXPERIMENTS.items():
        parser = names.add_parser(name, help=experiment.title)
        parser.add_argument("--model", type=Path, required=True, help="folder of an elastic model")
        fewer = Fewer(parser, experiment.without)
        add_judge_options(fewer)
        add_sampling_options(fewer)
        add_loading_options(parser)
        add_file_options(parser)
        parser.set_defaults(run=_experiment, default=parser.get_default)
    trained.add_names(names)
    plays.add_names(names)


def _experiment(args: argparse.Namespace) -> None:
    experiment = EXPERIMENTS[args.name]
    sampling = sampling_of(args)
    if args.i3d is None:
        refuse(args, "without --i3d", "--fvd-side")
    out = results_file(args)
    device = choose_device(args.device)
    pipeline = pipeline_of(args)
    if pipeline.transformer.config.layout != "elastic":
        raise ValueError(f"model {pipeline.name!r} knows one block shape; experiments need several")
    length, *_ = check_grid(pipeline.grid, pipeline.tokens)
    for shape in experiment.shapes:
        sequence_plan(pipeline.config, shape, length)
    tools, notes = tools_of(args, device)
    report: dict[str, Any] = {
        **report_head(experiment.title, experiment.kind, device_name(device)),
        **settings(args, pipeline, sampling),
        "count": args.count,
        "real": f"{args.split} clips of {args.clips.name}",
        **measured_with(args),
        "notes": "; ".join(notes),
        "done": "",
        "baselines": [],
        "rows": [],
    }
    del report["block"]  # each row has its own
    report = earlier(out, report) or report
    todo = remaining(report, experiment.units)
    if todo:
        bench = _bench(args, pipeline, Judge.of(real_clips(args), args.count, tools), sampling)
        if experiment.has_baselines and not report["baselines"]:
            figures = bench.judge.baselines(pipeline.tokenizer, device)
            report["baselines"] = [figure.to_row() for figure in figures]
        for unit in tqdm(todo, desc=args.name, disable=args.json):
            keep(out, report, unit, experiment.rows(bench, unit))
    say(args, out, report)


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
