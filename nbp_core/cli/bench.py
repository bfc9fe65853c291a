"""The verb `bench`: times decode steps of each model and block shape beside the hardware's floor.

The floor of a step is the least time that the hardware needs for its bytes and operations.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from rich.console import Console

from nbp_core.bench.against import hugging_face, released
from nbp_core.bench.against.figures import Against
from nbp_core.bench.floor import KNOWN_FRAMES, Machine, fits, measure_machine, time_block_shape
from nbp_core.bench.format_loss import FormatLoss, format_loss
from nbp_core.bench.tables import (
    TIMED_CLIPS,
    EndToEnd,
    Timed,
    against_words,
    clip_table,
    loss_words,
    step_rows,
    step_table,
)
from nbp_core.checkpoint import describe_models
from nbp_core.cli.options import add_device_option, check_least, report_head, write_report
from nbp_core.config.description import load_config
from nbp_core.config.models import TransformerConfig
from nbp_core.config.presets import PAPER_PRESETS, RANDOM_WEIGHTS
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import (
    CLIP_FRAMES,
    FIGURE6_SHAPES,
    Size3,
    format_block_shape,
    parse_block_shape,
)
from nbp_core.config.weight_files import weights_sha256
from nbp_core.device import choose_device, device_name
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.interrupt import ignored
from nbp_core.media.files import Frames, try_writing
from nbp_core.media.video import CONTEXT_FRAMES, read_context
from nbp_core.models.speed_only import random_packed
from nbp_core.packed.formats import WeightFormat, choose_format, compute_dtype, formats_on
from nbp_core.packed.model import load_packed
from nbp_core.runtime import runtime, start

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

Case = tuple[str, Size3]
"""A protocol and a block shape."""
ROUNDS = 5
"""Alternating runs of this project and of another program."""
WIDTH = 110
PAPER_ROW = "paper, one A100: 700M, K600, NTP 0.80 and rows 8.89 frames/s, tokenizer included"


def add_verb(verbs: Any) -> None:
    """Adds the verb to the command line's parser."""
    parser = verbs.add_parser(
        "bench", help="time decode steps, and compare them with the least time the hardware needs"
    )
    parser.add_argument(
        "--folder", type=Path, default=Path("weights"), help="folder of models; default: weights"
    )
    parser.add_argument(
        "--presets", nargs="*", choices=sorted(PAPER_PRESETS), default=["XL"], metavar="NAME",
        help="model sizes of the paper to time with random weights (XL, XXL, 3B); default: XL",
    )  # fmt: skip
    only = parser.add_mutually_exclusive_group()
    for held in ("int8", "int4"):
        only.add_argument(
            f"--{held}", dest="only", action="store_const", const=held,
            help=f"time {held} weights only; default: every weight format of the device",
        )  # fmt: skip
    parser.add_argument(
        "--blocks", nargs="+", metavar="BLOCK",
        help="block shapes, such as 1x1x16; default: the six of the paper's figure 6",
    )  # fmt: skip
    add_device_option(parser)
    parser.add_argument(
        "--steps", type=int, default=32, help="largest number of decode steps to time; default: 32"
    )
    parser.add_argument(
        "--clips", type=Path, default=Path("assets"), metavar="FOLDER",
        help=f"folder of MP4 files of {CLIP_FRAMES} frames each, not in sub-folders, on which to "
        "measure the loss of int8 and int4 weights; default: assets",
    )  # fmt: skip
    parser.add_argument(
        "--against", nargs="+", choices=("transformers", "released"), default=(),
        help="also time other programs on the same network: Hugging Face transformers (next token),"
        " the paper's released sampling procedure in plain PyTorch (every size in --presets)",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=_bench)


def _bench(args: argparse.Namespace) -> None:
    check_least(args, steps=1)
    device = choose_device(args.device)
    if args.against and device != "cpu":
        raise ValueError("--against compares on the CPU: add --device cpu")
    if "transformers" in args.against:
        hugging_face.check_installed()
    if args.out is not None:
        try_writing(args.out)
    formats = (
        (choose_format(device, args.only == "int8", args.only == "int4"),)
        if args.only
        else formats_on(device)
    )
    shapes = [parse_block_shape(text) for text in args.blocks or ()] or list(FIGURE6_SHAPES)
    cases = {source: _cases(source, shapes) for source in _sources(args)}
    if not cases and not args.against:
        raise ValueError(f"{args.folder} has no transformer, and --presets names no size to time")
    if cases and not any(cases.values()):
        raise ValueError(f"no model can be timed in blocks of {_named(shapes)}")
    measured = formats[0 if args.only else 1 :]
    known = _known_clips(args.clips) if measured and set(cases) - set(args.presets) else []
    machine = after = _apart(_machine, device)
    console = Console(stderr=True, width=WIDTH)
    console.print(
        f"{machine.name}, {machine.threads} threads: reads {machine.read_gb_s:.1f} GB/s, multiplies"
        f" {machine.matmul_tflop_s:.2f} TFLOP/s in {machine.dtype}"
    )
    report: dict[str, Any] = {
        **report_head("Speed against the hardware's floor", "bench", machine.name),
        "weights": "named in each row",
        "machine": _finite(asdict(machine)),
        "rows": [],
        "clips": [],
        "losses": [],
        "against": [],
    }
    clips: list[EndToEnd] = []
    for source, found in cases.items():
        _say_left_out(source, found, shapes)
        for held in formats if found else ():
            timed = _apart(_time_model, source, device, found, args.steps, held)
            before, after = after, _apart(_machine, device)
            around, machine = before.best(after), machine.best(after)
            report["rows"] += step_rows(timed, around)
            report["machine"] = _finite(asdict(machine))
            console.print(step_table(timed, around))
            write_report(args.out, report)
        if found and isinstance(source, Path):
            clips += _apart(_time_clips, source, device, shapes, formats[0])
            report["clips"] = [asdict(clip) for clip in clips]
            for held in measured if known else ():
                loss = _apart(_loss, source, known, held)
                report["losses"].append({"model": source.name, **asdict(loss)})
                console.print(loss_words(loss))
            write_report(args.out, report)
    for other in _against(args, formats):
        report["against"].append({**asdict(other), "ratio": other.ratio})
        console.print(against_words(other))
        write_report(args.out, report)
    if clips:
        console.print(clip_table(clips))
    console.print(PAPER_ROW)
    write_report(args.out, report)
    if args.json:
        print(json.dumps(report))


def _sources(args: argparse.Namespace) -> Iterator[Path | str]:
    """The folders of bundled transformers, then the names of presets."""
    models, faults = describe_models(args.folder)
    for fault in faults:
        print(f"left out: {fault}", file=sys.stderr)
    for model in models:
        if model.kind == "transformer":
            yield args.folder / model.name
    yield from args.presets


def _cases(source: Path | str, shapes: Sequence[Size3]) -> list[Case]:
    """The protocols and block shapes in which the steps of a model can be timed."""
    return [
        (protocol, shape)
        for protocol, known in KNOWN_FRAMES.items()
        for shape in shapes
        if fits(_config(source, shape), shape, known)
    ]


def _config(source: Path | str, shape: Size3) -> TransformerConfig:
    """The config of a model for a block shape. Random weights serve all of them equally well."""
    if isinstance(source, Path):
        return load_config(source, TransformerConfig)
    return replace(PAPER_PRESETS[source], block_shape=shape)


def _say_left_out(source: Path | str, found: list[Case], shapes: Sequence[Size3]) -> None:
    timed = {shape for _, shape in found}
    left_out = [shape for shape in shapes if shape not in timed]
    if left_out:
        name = source.name if isinstance(source, Path) else source
        print(f"model {name!r} is not timed in blocks of {_named(left_out)}", file=sys.stderr)


def _named(shapes: Iterable[Size3]) -> str:
    return ", ".join(map(format_block_shape, shapes))


def _against(args: argparse.Namespace, formats: Sequence[WeightFormat]) -> Iterator[Against]:
    """Comparisons with other programs. Each pair of models runs in a process of its own."""
    if "transformers" in args.against:
        for name in hugging_face.SHAPES:
            for held in dict.fromkeys(("float32", choose_format("cpu"))):
                yield _apart(hugging_face.compare, name, held, args.steps, ROUNDS)
    if "released" in args.against:
        pairs = [(formats[0], torch.float32), *((held, torch.bfloat16) for held in formats)]
        for preset in args.presets:
            for held, dtype in pairs:
                yield from _apart(released.compare, preset, held, dtype, args.steps, ROUNDS)


def _apart(work: Any, *arguments: Any) -> Any:
    """Runs a function in a new process, so that peak memory is that of one model alone.

    It computes with the instructions and threads of this process.
    """
    here = runtime()
    chosen = here.limit, here.num_threads
    with ProcessPoolExecutor(1, get_context("spawn"), start, chosen) as pool:
        # Ctrl+C ends it by way of this process, which ends first in one sentence.
        with ignored():
            future = pool.submit(work, *arguments)
        try:
            return future.result()
        except KeyboardInterrupt:
            for process in active_children():
                process.kill()
            raise


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    """The row with null in place of NaN, which JSON lacks."""
    return {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in figures.items()}


def _machine(device: str) -> Machine:
    dtype = compute_dtype(choose_format(device))
    return measure_machine(torch.device(device), dtype, device_name(device))


def _time_model(
    source: Path | str,
    device: str,
    cases: list[Case],
    max_steps: int,
    held: WeightFormat,
) -> Timed:
    began = time.perf_counter()
    if isinstance(source, Path):
        model = load_packed(source, device, held == "int8", held == "int4")
        weights = weights_sha256(source)[:8]
    else:
        model = random_packed(PAPER_PRESETS[source], device, held)
        weights = RANDOM_WEIGHTS
    load_s = time.perf_counter() - began
    figures = []
    for protocol, shape in cases:
        model.config = _config(source, shape)
        figures.append(time_block_shape(model, shape, protocol, weights, max_steps))
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else _peak_resident()
    return Timed(figures, load_s, peak)


def _peak_resident() -> int:
    """Peak resident memory of this process, in bytes."""
    if resource is None:
        peak: int = psutil.Process().memory_info().peak_wset
        return peak
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _time_clips(
    folder: Path, device: str, shapes: list[Size3], held: WeightFormat
) -> list[EndToEnd]:
    """Times whole clips of each block shape that the model has, after a warm-up.

    They start from the model's first action, or from five frames if it has no actions.
    """
    pipeline = VideoPipeline.from_pretrained(
        folder, device=device, int8=held == "int8", int4=held == "int4"
    )
    known = 0 if pipeline.actions else CONTEXT_FRAMES
    known_latents = math.ceil(known / pipeline.tokenizer.config.time_factor)
    clips = []
    for shape in shapes:
        if not fits(pipeline.transformer.config, shape, known_latents):
            continue
        runs = [_time_clip(pipeline, shape, seed) for seed in range(1 + TIMED_CLIPS)][1:]
        seconds, first_frame_s = (statistics.median(times) for times in zip(*runs, strict=True))
        clips.append(
            EndToEnd(
                model=pipeline.name,
                weights=weights_sha256(folder)[:8],
                weight_format=held,
                block=format_block_shape(shape),
                seconds=seconds,
                first_frame_s=first_frame_s,
                frames_s=(CLIP_FRAMES - known) / seconds,
            )
        )
    return clips


def _time_clip(pipeline: VideoPipeline, shape: Size3, seed: int) -> tuple[float, float]:
    """(seconds until the whole clip, seconds until its first frame)."""
    first_frame_s = None
    action, frames_THWC = next(iter(pipeline.actions), None), None
    if action is None:
        frames_THWC = np.zeros((CONTEXT_FRAMES, pipeline.side, pipeline.side, 3), np.uint8)
    began = time.perf_counter()
    sampling = SamplingConfig(block_shape=shape, seed=seed)
    with pipeline.stream(action, frames_THWC, sampling=sampling) as run:
        for step in run:
            if first_frame_s is None and step.new_frames is not None:
                first_frame_s = time.perf_counter() - began
    assert first_frame_s is not None
    return time.perf_counter() - began, first_frame_s


def _known_clips(folder: Path) -> list[Frames]:
    """The clips of a model's length in a folder. Without any, says that no loss is measured."""
    read = (read_context(path, max_frames=CLIP_FRAMES) for path in sorted(folder.glob("*.mp4")))
    found = [frames for frames in read if len(frames) == CLIP_FRAMES]
    if not found:
        print(
            f"losses of int8 and int4 weights are not measured: {folder} itself has no MP4 file of "
            f"{CLIP_FRAMES} frames (--clips)",
            file=sys.stderr,
        )
    return found


def _loss(folder: Path, known: list[Frames], held: WeightFormat) -> FormatLoss:
    """The loss of a weight format on clips of the model's length."""
    pipeline = VideoPipeline.from_pretrained(folder, device="cpu")
    tokens = np.stack([pipeline.tokenize(frames) for frames in known])
    return format_loss(folder, torch.from_numpy(tokens), held)
