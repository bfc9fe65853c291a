"""The experiments of the verb `experiment` that train their own models.

An arm is one of the compared models. It is trained once per run folder, also if several experiments
use it. With --clips its clips are judged too; otherwise only its loss and speed are measured.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nbp_core.blocks.grid import BlockLayout
from nbp_core.cli.evaluate import JUDGES, add_judge_options, real_clips, tools_of
from nbp_core.cli.options import (
    Fewer,
    add_device_option,
    add_file_options,
    add_sampling_options,
    measured_with,
    refuse,
    report_head,
    results_file,
    sampling_of,
    say,
)
from nbp_core.config.description import name_of_folder
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import CLIP_FRAMES, format_block_shape
from nbp_core.config.weight_files import weights_sha256
from nbp_core.data.tokens import TokenSet
from nbp_core.device import choose_device, device_name
from nbp_core.evaluation.held_out import Losses
from nbp_core.evaluation.judge import Judge
from nbp_core.experiments import arm_figures
from nbp_core.experiments.arms import Material, Scale, arm_config, arm_model, train_arm
from nbp_core.experiments.comparisons import COMPARISONS, Unit
from nbp_core.generation.batches import generate_many
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.results.growing import Report, earlier, keep, remaining
from nbp_core.tokenizer.model import VideoTokenizer

SPEED_CLIPS = 4


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """The data and tools with which arms are trained and measured."""

    run_folder: Path
    scale: Scale
    material: Material
    num_validation_clips: int
    sampling: SamplingConfig
    device: str
    judge: Judge | None
    """Real clips to judge against, if the options name some."""
    count: int
    batch_size: int


def add_names(names: Any) -> None:
    """Adds one parser per experiment to the verb `experiment`."""
    defaults = Scale()
    for name, comparison in COMPARISONS.items():
        parser = names.add_parser(name, help=comparison.title)
        parser.add_argument(
            "--tokens", type=Path, required=True, help="folder of encoded clips: train/ and val/"
        )
        parser.add_argument(
            "--tokenizer",
            type=Path,
            required=True,
            help="folder of the tokenizer that encoded the clips",
        )
        parser.add_argument(
            "--run", type=Path, required=True, dest="run_folder",
            help="folder for the models; models already in it are not trained again",
        )  # fmt: skip
        for option, default, meaning in (
            ("--seeds", 1, "number of models of each kind, one per seed"),
            ("--layers", defaults.layers, "layers of size M"),
            ("--width", defaults.width, "width of size M"),
            ("--steps", defaults.steps, "training steps of each model"),
            ("--lr", defaults.lr, "learning rate of AdamW, for vectors and embeddings"),
            ("--muon-lr", defaults.muon_lr, "learning rate of Muon, for matrices"),
            ("--train-batch", defaults.batch, "clips per step"),
            ("--validation-clips", 100, "number of held-out clips for the loss"),
        ):
            text = f"{meaning}; default: {default:g}"
            parser.add_argument(option, type=type(default), default=default, help=text)
        add_judge_options(Fewer(parser, ["--context-frames"]), required=False)
        add_sampling_options(parser)
        add_device_option(parser)
        add_file_options(parser)
        parser.set_defaults(run=_compare, default=parser.get_default)


def _compare(args: argparse.Namespace) -> None:
    comparison = COMPARISONS[args.name]
    if args.seeds < 1 or args.validation_clips < 2:
        raise ValueError("--seeds must be at least 1 and --validation-clips at least 2")
    if args.clips is None:
        unused = ("--split", "--cache", "--count", "--batch-size")
        refuse(args, "without --clips", *unused, *JUDGES)
    if args.i3d is None:
        refuse(args, "without --i3d", "--fvd-side")
    out = results_file(args)
    workshop, notes = _workshop(args)
    report: Report = {
        **report_head(comparison.title, "trained", device_name(workshop.device)),
        "weights": "trained for it; each row names its own",
        "tokenizer": f"{args.tokenizer.name} {workshop.material.tokenizer['sha256'][:8]}",
        "scale": workshop.scale.to_dict(),
        "train_clips": len(workshop.material.train),
        "validation_clips": min(args.validation_clips, len(workshop.material.val)),
        "tokens": workshop.material.fingerprints,
        "sampling": workshop.sampling.guided(1).for_manifest(),
        "count": args.count if workshop.judge else 0,
        **measured_with(args),
        "notes": "; ".join(notes),
        "done": "",
        "curves": [],
        "rows": [],
    }
    report = earlier(out, report) or report
    units = {
        f"{unit.name}, seed {seed}": (unit, seed)
        for seed in range(args.seeds)
        for unit in comparison.units
    }
    for name in remaining(report, units):
        unit, seed = units[name]
        _train(workshop, unit, seed, args.json)
        report["curves"] += arm_figures.curve_rows(workshop.run_folder, unit, workshop.scale, seed)
        keep(out, report, name, [_row(workshop, unit, seed)])
    say(args, out, report)


def _workshop(args: argparse.Namespace) -> tuple[Workshop, list[str]]:
    """(the workshop that the options describe, a sentence for each figure left out).

    Raises ValueError for tokens whose grid the experiment's block shapes do not tile, and for a
    scale at which one of its models cannot be built."""
    device = choose_device(args.device)
    material = _material(args.tokens, args.tokenizer, args.run_folder)
    scale = Scale(
        layers=args.layers, width=args.width, steps=args.steps, batch=args.train_batch,
        lr=args.lr, muon_lr=args.muon_lr,
    )  # fmt: skip
    for unit in COMPARISONS[args.name].units:
        arm_config(unit.arm, scale, material)
        for shape in (unit.shape, *unit.arm.shapes):
            BlockLayout(material.grid, shape)
    judge, notes = None, ["no clips were judged: --clips was not given"]
    if args.clips is not None:
        tools, notes = tools_of(args, device)
        judge = Judge.of(real_clips(args), args.count, tools)
    workshop = Workshop(
        run_folder=args.run_folder,
        scale=scale,
        material=material,
        num_validation_clips=args.validation_clips,
        sampling=sampling_of(args),
        device=device,
        judge=judge,
        count=args.count,
        batch_size=args.batch_size,
    )
    return workshop, notes


def _material(tokens: Path, tokenizer: Path, run_folder: Path) -> Material:
    """The encoded clips. Raises ValueError if they are missing or from another tokenizer."""
    sha256 = weights_sha256(tokenizer)
    sets = [TokenSet.load(tokens / split, sha256) for split in ("train", "val")]
    train, val = sets
    if train is None or val is None:
        raise ValueError(
            f"{tokens.name} does not hold train/ and val/ encoded by tokenizer {tokenizer.name!r}; "
            "train-transformer writes such a folder, tokens/, into its run folder"
        )
    config = VideoTokenizer.from_pretrained(tokenizer).config
    place = name_of_folder((run_folder / "arm" / "model").resolve(), tokenizer.resolve())
    return Material(
        train=train,
        val=val,
        tokenizer={"folder": place, "sha256": sha256},
        codebook_size=config.codebook_size,
    )


def _train(workshop: Workshop, unit: Unit, seed: int, is_silent: bool) -> None:
    """Trains the unit's arm, and the arm it is compared with, unless they exist already."""
    for of in filter(None, (unit.against, unit)):
        steps = train_arm(
            of.arm, workshop.scale, seed, workshop.material, workshop.run_folder, workshop.device
        )
        with tqdm(steps, desc=f"{of.arm.name}, seed {seed}", unit="step", disable=is_silent) as bar:
            for step in bar:
                bar.set_postfix(loss=f"{step.metrics['loss']:.4f}", refresh=False)


def _row(workshop: Workshop, unit: Unit, seed: int) -> dict[str, Any]:
    run_folder, scale, material = workshop.run_folder, workshop.scale, workshop.material

    def losses(of: Unit) -> Losses:
        count = workshop.num_validation_clips
        return arm_figures.held_out_losses(run_folder, of, scale, seed, material, count)

    row = {
        "arm": unit.name,
        "seed": seed,
        "block": format_block_shape(unit.shape),
        **arm_figures.training_figures(run_folder, unit.arm, scale, seed),
        **arm_figures.loss_figures(losses(unit)),
    }
    if unit.against is not None:
        row["against"] = unit.against.name
        row |= arm_figures.difference_figures(losses(unit), losses(unit.against))
    folder = arm_model(run_folder, unit.arm, scale, seed)
    pipeline = VideoPipeline.from_pretrained(folder, device=workshop.device)
    row["parameters"] = pipeline.num_parameters
    return row | _clip_figures(workshop, unit, pipeline)


def _clip_figures(workshop: Workshop, unit: Unit, pipeline: VideoPipeline) -> dict[str, Any]:
    """Speed and quality of a batch of clips, decoded to pixels.

    On a CPU the speed is also given per processor time, which depends less on other load.
    """
    sampling = replace(workshop.sampling, block_shape=unit.shape)
    judge = workshop.judge
    figures: dict[str, Any] = {"decode_steps": pipeline.num_steps(unit.shape, 0)}
    began = time.process_time()
    if judge is None:
        actions = (pipeline.actions * SPEED_CLIPS)[:SPEED_CLIPS]
        made = generate_many(pipeline, actions, sampling=sampling, batch_size=SPEED_CLIPS)
    else:
        judge.token_side = pipeline.tokenizer.config.space_factor
        clips, made = judge.generate(pipeline, workshop.count, 0, sampling, workshop.batch_size)
    num_frames = len(made.frames_NTHWC) * CLIP_FRAMES
    if workshop.device == "cpu":
        figures["frames_cpu_s"] = num_frames / (time.process_time() - began)
    figures["frames_s"] = num_frames / made.seconds
    if judge is not None:
        figures |= {figure.metric: figure.value for figure in judge.figures(clips, paired=False)}
    return figures
