"""The command line: verbs, their options, and errors as one sentence with exit code 2.

With --json a verb prints one JSON object, and nothing else, on stdout. Text for people and
progress bars go to stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from tqdm import tqdm

from nbp_core.checkpoint import describe_models, model_kind
from nbp_core.cli import attention, bench, compare, convert, evaluate, play
from nbp_core.cli import train_all as train_commands
from nbp_core.cli.doctor import examine
from nbp_core.cli.experiments import verb as experiments
from nbp_core.cli.options import (
    add_device_option,
    add_generation_options,
    add_runtime_options,
    context_of,
    pipeline_of,
    sampling_of,
    start_runtime,
    tell,
    write_or_keep,
)
from nbp_core.config.shapes import CLIP_FRAMES
from nbp_core.config.timeline import parse_timeline
from nbp_core.media.files import try_writing
from nbp_core.media.video import write_gif, write_video
from nbp_core.memory import is_memory_error

MODELS_FOLDER = Path("weights")
NO_MEMORY = (
    "There is not enough memory for this: choose a smaller model, fewer frames or a smaller batch,"
    " or the CPU with --device cpu."
)
WRITERS = {".mp4": write_video, ".gif": write_gif}


class _Parser(argparse.ArgumentParser):
    """argparse that raises an error as a one-sentence ValueError."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message} (see {self.prog} --help)")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs. The chosen verb's function is in the result's `run`."""
    installed = Path(sys.argv[0]).stem == "nbp"
    name = "nbp" if installed else "python -m nbp_core"
    parser = _Parser(prog=name, description="NBP Studio's engine.")
    add_runtime_options(parser)
    verbs = parser.add_subparsers(title="verbs", required=True, metavar="VERB")
    _add_generate(verbs)

    models = verbs.add_parser("models", help="list the models of a folder")
    models.add_argument(
        "--folder", type=Path, default=MODELS_FOLDER, help="folder of models; default: weights"
    )
    models.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    models.set_defaults(run=_models)

    doctor = verbs.add_parser("doctor", help="list packages and models, test and time each model")
    doctor.add_argument(
        "folder", type=Path, nargs="?", default=MODELS_FOLDER,
        help="one model, or a folder of models; default: weights",
    )  # fmt: skip
    add_device_option(doctor)
    doctor.add_argument(
        "--clip", type=Path, metavar="FILE.mp4",
        help="file for a test clip; default for a single transformer: doctor-NAME.mp4",
    )  # fmt: skip
    doctor.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    doctor.set_defaults(run=_doctor)

    attention.add_verb(verbs)
    compare.add_verb(verbs)
    play.add_verb(verbs)
    convert.add_verb(verbs)
    bench.add_verb(verbs)
    evaluate.add_verb(verbs)
    experiments.add_verb(verbs)
    train_commands.add_verbs(verbs)
    return parser


def _add_generate(verbs: Any) -> None:
    parser = verbs.add_parser("generate", help="make a clip from an action or from first frames")
    add_generation_options(parser)
    parser.add_argument("--block", help="block shape, such as 1x1x16; default: the model's own")
    parser.add_argument(
        "--actions", metavar="TIMELINE",
        help="for models trained with keys: a sequence of actions, each with its number of latent "
        'frames of four frames, such as "drawer-open*4 drawer-close*8" (names with spaces or * in '
        "quotes: \"'open drawer'*4\"); without --frames it also sets the length",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="clip to write, .mp4 or .gif")
    parser.set_defaults(run=_generate)


def _generate(args: argparse.Namespace) -> None:
    sampling = sampling_of(args)
    if args.out.suffix.lower() not in WRITERS:
        raise ValueError(f"--out must end in .mp4 or .gif, not {args.out.name!r}")
    if not args.out.parent.is_dir():
        raise ValueError(f"the folder of --out does not exist: {args.out.parent}")
    try_writing(args.out)
    frames = context_of(args)
    actions = () if args.actions is None else parse_timeline(args.actions)
    pipeline = pipeline_of(args)
    num_frames = args.frames
    if num_frames is None:
        start = 1 if frames is None else len(frames)
        new = pipeline.tokens.time_factor * len(actions)
        num_frames = start + new if actions else CLIP_FRAMES
    with (
        pipeline.stream(args.action, frames, num_frames, sampling, actions=actions) as run,
        tqdm(total=None, unit="step", disable=args.json) as bar,
    ):
        for step in run:
            bar.total = step.num_steps
            bar.update()
    result = run.generation()
    if args.crop is not None:
        result.manifest["context"]["crop"] = args.crop  # as the studio's page notes it
    write = WRITERS[args.out.suffix.lower()]
    comment = json.dumps(result.manifest, sort_keys=True)
    write_or_keep(
        args.out, lambda out: write(out, result.frames_THWC, scale=args.scale, comment=comment)
    )
    report = {
        "out": str(args.out),
        "steps": result.steps,
        "timings": result.timings,
        "manifest": result.manifest,
    }
    seconds = sum(result.timings["per_step_s"])
    tell(
        args,
        report,
        f"{args.out}: {len(result.frames_THWC)} frames in {result.steps} steps, {seconds:.2f} s of "
        f"sampling and {result.timings['detokenize_s']:.2f} s of decoding, on {pipeline.device}",
    )


def _models(args: argparse.Namespace) -> None:
    models, faults = describe_models(args.folder)
    if args.json:
        print(json.dumps({"models": [asdict(model) for model in models], "faults": faults}))
        return
    for model in models:
        text = f"{model.name:12} {model.kind:12} {model.num_parameters / 1e6:8.2f} M parameters"
        text += f" {model.num_bytes / 2**20:8.1f} MiB"
        if model.actions:
            text += f"  {len(model.actions)} actions"
        print(text, file=sys.stderr)
    for fault in faults:
        print(f"cannot be used: {fault}", file=sys.stderr)
    if not models and not faults:
        print(f"no models in {args.folder}", file=sys.stderr)


def _doctor(args: argparse.Namespace) -> None:
    clip, is_transformer = args.clip, model_kind(args.folder) == "transformer"
    if clip is not None and not is_transformer:
        raise ValueError(f"--clip needs the folder of one transformer, which {args.folder} is not")
    if clip is None and is_transformer:
        clip = Path(f"doctor-{args.folder.resolve().name}.mp4")
    if clip is not None:
        try_writing(clip)
    report = examine(args.folder, args.device, clip)
    tell(args, report.to_dict(), report.text())
    if report.faults:
        raise ValueError(f"{len(report.faults)} of the models cannot be used: {report.faults[0]}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a verb. Returns 0 on success, 2 after an error, 130 after Ctrl+C.

    An error is one sentence on stderr.
    """
    try:
        args = build_parser().parse_args(argv)
        start_runtime(args)
        args.run(args)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        print(sentence, file=sys.stderr)
        return 2
    return 0


def _sentence(error: Exception) -> str | None:
    """An error as one sentence for the user; None for a fault of the program itself, whose
    traceback is printed."""
    if is_memory_error(error):
        return NO_MEMORY
    if isinstance(error, OSError):
        subject = f"{error.filename}: " if error.filename else ""
        return f"{subject}{error.strerror or error}"
    return str(error) if isinstance(error, ValueError) else None
