"""The verb `compare`: races two block shapes; writes both clips and all figures to a folder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nbp_core.cli.options import (
    add_generation_options,
    context_of,
    no_empty_folder,
    pipeline_of,
    sampling_of,
    tell,
    write_or_keep,
)
from nbp_core.config.shapes import CLIP_FRAMES, format_block_shape, parse_block_shape
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.race import Lap, Race, RaceRequest, race
from nbp_core.generation.request import GenerateRequest
from nbp_core.media.files import try_writing, write_text
from nbp_core.media.video import write_video

DEFAULT_BLOCKS = ("1x1x1", "1x1x16")
FIGURES = "compare.json"


def add_verb(verbs: Any) -> None:
    """Adds the verb to the command line's parser."""
    parser = verbs.add_parser("compare", help="race two block shapes from the same start and seed")
    add_generation_options(parser)
    parser.add_argument(
        "--blocks", nargs=2, default=DEFAULT_BLOCKS, metavar="BLOCK",
        help="the two block shapes: the baseline, then the challenger; default: 1x1x1 1x1x16",
    )  # fmt: skip
    parser.add_argument(
        "--out-dir", type=Path, required=True, help=f"folder for both clips and {FIGURES}"
    )
    parser.set_defaults(run=_compare)


def _compare(args: argparse.Namespace) -> None:
    first, second = map(parse_block_shape, args.blocks)
    request = RaceRequest(
        shapes=(first, second),
        request=GenerateRequest(
            action=args.action,
            frames_THWC=context_of(args),
            num_frames=CLIP_FRAMES if args.frames is None else args.frames,
            sampling=sampling_of(args),
        ),
    )
    if args.out_dir.exists() and not args.out_dir.is_dir():
        raise ValueError(f"--out-dir is not a folder: {args.out_dir}")
    _try_folder(args.out_dir)
    pipeline = pipeline_of(args)
    with tqdm(unit="step", disable=args.json) as bar:

        def show(lap: Lap) -> None:
            if lap.phase == "warm-up":
                bar.reset(lap.num_steps)
                bar.set_description(format_block_shape(request.shapes[lap.runner]))
            else:
                bar.update()

        result = race(pipeline, request, show)
    report = result.report()
    write_or_keep(args.out_dir, lambda folder: _write(folder, result, report, args.scale))
    tell(args, report, _text(report, pipeline))


def _try_folder(folder: Path) -> None:
    """Tries the folder of the clips before the race; what this makes is removed again."""
    with no_empty_folder(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try_writing(folder / FIGURES)


def _write(folder: Path, result: Race, report: dict[str, Any], scale: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    report["out_dir"] = str(folder)
    for runner, figures in zip(result.runners, report["runners"], strict=True):
        out = folder / f"{figures['block']}.mp4"
        comment = json.dumps(figures["manifest"], sort_keys=True)
        write_video(out, runner.generation.frames_THWC, scale=scale, comment=comment)
        figures["out"] = str(out)
    write_text(folder / FIGURES, json.dumps(report, indent=2) + "\n")


def _text(report: dict[str, Any], pipeline: VideoPipeline) -> str:
    lines = [
        f"{figures['out']}: {figures['steps']:,} steps, {figures['sampling_s']:.2f} s of sampling,"
        f" {figures['end_to_end_s']:.2f} s with the tokenizer"
        for figures in report["runners"]
    ]
    first, second = (figures["block"] for figures in report["runners"])
    ratio = report["speed_up"]
    lines.append(
        f"{second} against {first}: {ratio['sampling']:.1f}x in sampling,"
        f" {ratio['end_to_end']:.1f}x end to end, {ratio['steps']:.1f}x fewer steps;"
        f" {pipeline.name} on {pipeline.device}"
    )
    return "\n".join(lines)
