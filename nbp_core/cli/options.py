"""Options that several verbs share: the start of a clip, sampling, device, report file."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from datetime import date
from pathlib import Path
from typing import Any

from nbp_core.config.presets import COSMOS
from nbp_core.config.sampling import METHODS, SamplingConfig
from nbp_core.config.shapes import CLIP_FRAMES, parse_block_shape
from nbp_core.config.weight_files import weights_sha256
from nbp_core.data.sources import folder_fingerprint
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.media.files import Frames, MediaError, shown_name, try_writing, write_text
from nbp_core.media.video import CONTEXT_FRAMES, crop_resize, read_context
from nbp_core.runtime import INSTRUCTION_NAMES, start

SAMPLING = ("--temperature", "--top-k", "--top-p", "--guidance", "--method", "--seed")
"""The options of add_sampling_options."""


class Fewer:
    """A parser that leaves out options without effect on its verb. These keep their defaults."""

    def __init__(self, parser: argparse.ArgumentParser, left_out: Collection[str]) -> None:
        self._parser, self._left_out = parser, left_out

    def add_argument(self, option: str, **settings: Any) -> None:
        if option in self._left_out:
            name = option.removeprefix("--").replace("-", "_")
            self._parser.set_defaults(**{name: settings.get("default")})
        else:
            self._parser.add_argument(option, **settings)


def add_runtime_options(parser: argparse.ArgumentParser) -> None:
    """Adds options of the whole process, which stand before the verb."""
    parser.add_argument(
        "--instructions", metavar="NAME",
        help="use no better instruction set than this one, to measure what better ones gain: "
        f"{', '.join(INSTRUCTION_NAMES)}; default: the best one of this processor",
    )  # fmt: skip
    parser.add_argument(
        "--threads", type=int, metavar="N", help="number of threads; default: one per core"
    )


def start_runtime(args: argparse.Namespace) -> None:
    """Starts this process' runtime if one of its options is given. Raises ValueError as it does."""
    if args.instructions is not None or args.threads is not None:
        start(args.instructions, args.threads)


def add_generation_options(parser: argparse.ArgumentParser) -> None:
    """Adds options of a generation: model, start, length, sampling, device."""
    parser.add_argument("--model", type=Path, required=True, help="folder of a transformer")
    parser.add_argument("--action", help="named action, such as door-open")
    start = parser.add_mutually_exclusive_group()
    start.add_argument("--first-frame", type=Path, help="picture or clip to start from")
    start.add_argument("--context", type=Path, help="clip to continue, read at 8 frames/s")
    parser.add_argument(
        "--context-frames",
        type=int,
        help="frames to take from the start of --context: 1 + 4n; default: 5, half a second",
    )
    parser.add_argument(
        "--crop", type=float,
        help="where the square lies that is cut from --first-frame or --context, along the longer"
        " side: from 0 (left or top) to 1; default: 0.5, the middle",
    )  # fmt: skip
    parser.add_argument(
        "--frames", type=int, help=f"length in frames: 1 + 4n; default: {CLIP_FRAMES}"
    )
    add_sampling_options(parser)
    add_loading_options(parser)
    add_scale_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def add_scale_option(parser: argparse.ArgumentParser) -> None:
    """Adds the size of the written clip."""
    parser.add_argument(
        "--scale", type=int, choices=range(1, 9), default=4, metavar="1-8",
        help="factor by which the written clip is enlarged; default: 4 (512 pixels)",
    )  # fmt: skip


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Adds the device to compute on."""
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto",
        help="device to compute on; default: auto (cuda if an NVIDIA GPU is found, else cpu)",
    )  # fmt: skip


def add_sampling_options(parser: argparse.ArgumentParser | Fewer) -> None:
    """Adds the options of sampling: temperature, top-k, top-p, guidance, method and seed."""
    defaults = SamplingConfig()
    parser.add_argument(
        "--temperature", type=float, default=defaults.temperature,
        help="divides the logits: lower is less varied, 0 takes the likeliest token; default: "
        f"{defaults.temperature:g}",
    )  # fmt: skip
    parser.add_argument(
        "--top-k", type=int, default=defaults.top_k,
        help=f"sample among the k likeliest tokens only; default: {defaults.top_k}",
    )  # fmt: skip
    parser.add_argument(
        "--top-p", type=float, default=defaults.top_p,
        help="sample among the likeliest tokens whose probabilities sum to p; default: "
        f"{defaults.top_p:g}",
    )  # fmt: skip
    parser.add_argument(
        "--guidance", type=float,
        help="scale of classifier-free guidance by the action or key; 1 is off; default: 1 for "
        "clips, and the model's own scale for plays",
    )  # fmt: skip
    parser.add_argument(
        "--method", choices=METHODS, default=defaults.method,
        help="how the tokens of a block are drawn: independently (paper), or with the same noise "
        f"in all latent frames (shared-noise); default: {defaults.method}",
    )  # fmt: skip
    parser.add_argument(
        "--seed", type=int, default=defaults.seed,
        help=f"seed of the random numbers; default: {defaults.seed}",
    )  # fmt: skip


def add_loading_options(parser: argparse.ArgumentParser) -> None:
    """Adds options of `pipeline_of`: device, weight format, Cosmos tokenizer."""
    add_device_option(parser)
    smaller = parser.add_mutually_exclusive_group()
    smaller.add_argument(
        "--int8",
        action="store_true",
        help="hold large matrices in 8 bits: faster, a bit less exact; `doctor` measures the gain",
    )
    smaller.add_argument(
        "--int4",
        action="store_true",
        help="hold large matrices in 4 bits: faster, less exact; `doctor` measures the gain",
    )
    parser.add_argument(
        "--cosmos", type=Path, metavar="FOLDER",
        help="folder of Cosmos' encoder.jit and decoder.jit, WHICH RUN CODE, for models trained "
        "with it",
    )  # fmt: skip


def sampling_of(args: argparse.Namespace) -> SamplingConfig:
    """The sampling that the options describe. Raises ValueError for values out of range."""
    block = getattr(args, "block", None)
    return SamplingConfig(
        block_shape=None if block is None else parse_block_shape(block),
        temperature=args.temperature,
        top_k=args.top_k,
        top_p=args.top_p,
        guidance_scale=args.guidance,
        seed=args.seed,
        method=args.method,
    )


def pipeline_of(args: argparse.Namespace) -> VideoPipeline:
    """The model that the options name, loaded. Raises ValueError, one sentence, if it cannot be."""
    pipeline = VideoPipeline.from_pretrained(
        args.model, device=args.device, cosmos=args.cosmos, int8=args.int8, int4=args.int4
    )
    if args.cosmos is not None and pipeline.tokenizer_name != COSMOS.name:
        raise ValueError(f"model {pipeline.name!r} has another tokenizer: leave --cosmos out")
    return pipeline


def context_of(args: argparse.Namespace) -> Frames | None:
    """The known frames that the options name, or None.

    Raises MediaError for a file that cannot be read, ValueError for a clip with too few frames.
    """
    if args.context is None and args.context_frames is not None:
        raise ValueError("--context-frames needs --context, the clip to take them from")
    if args.first_frame is None and args.context is None:
        if args.crop is not None:
            raise ValueError("--crop needs --first-frame or --context, of which it takes a square")
        return None
    if args.crop is not None and not 0 <= args.crop <= 1:
        raise ValueError(f"--crop must be from 0 to 1, not {args.crop:g}")
    frames_THWC = _known_frames(args)
    return frames_THWC if args.crop is None else crop_resize(frames_THWC, at=args.crop)


def _known_frames(args: argparse.Namespace) -> Frames:
    if args.first_frame is not None:
        return read_context(args.first_frame, max_frames=1)
    count = CONTEXT_FRAMES if args.context_frames is None else args.context_frames
    if count < 1:
        raise ValueError(f"--context-frames must be at least 1, not {count}")
    frames = read_context(args.context, count, count)
    if len(frames) < count:
        raise ValueError(
            f"{shown_name(args.context)} has {len(frames)} frame{'s' * (len(frames) != 1)}, too few"
            f" for a context of {count}"
        )
    return frames


def check_least(args: argparse.Namespace, **least: int) -> None:
    """Raises ValueError for an option, named as in `args`, that is below its least value."""
    for name, limit in least.items():
        if getattr(args, name) < limit:
            option = "--" + name.replace("_", "-")
            raise ValueError(f"{option} must be at least {limit}, not {getattr(args, name)}")


def refuse(args: argparse.Namespace, why: str, *options: str) -> None:
    """Raises ValueError for the first of these options that is given, which has no effect `why`,
    such as "without --clips". args.default gives the default of an option by its name in `args`."""
    for option in options:
        name = option.removeprefix("--").replace("-", "_")
        if getattr(args, name) != args.default(name):
            raise ValueError(f"{option} has no effect {why}: leave it out")


RESULTS = Path("results")


def report_head(title: str, kind: str, device: str) -> dict[str, Any]:
    """The entries that every results file begins with."""
    return {
        "title": title,
        "kind": kind,
        "date": date.today().isoformat(),
        "command": shlex.join(["python", "-m", "nbp_core", *sys.argv[1:]]),
        "device": device,
    }


def named_weights(pipeline: VideoPipeline) -> dict[str, str]:
    """The entries of a results file that name the weights of a model, their format, and the weights
    of its tokenizer."""
    return {
        "weights": f"{pipeline.name} {pipeline.identity['sha256'][:8]}",
        "weight_format": pipeline.identity["weight_format"],
        "tokenizer": f"{pipeline.tokenizer_name} {pipeline.identity['tokenizer_sha256'][:8]}",
    }


def measured_with(args: argparse.Namespace) -> dict[str, Any]:
    """The entries of a growing results file that name the real clips and the measuring networks.

    A later run continues the file only if it has the same.
    """
    found: dict[str, Any] = {}
    for name, value in vars(args).items():
        if name in ("clips", "arm_keys", "panoramas"):
            found[name] = value and folder_fingerprint(value)
        elif name in ("classifier", "key_reader"):
            found[name] = value and weights_sha256(value)[:8]
        elif name in ("memorisation", "fvd_side"):
            found[name] = value
    return found


def tell(args: argparse.Namespace, report: dict[str, Any], text: str) -> None:
    """Prints the report as JSON on stdout with --json, else the text on stderr."""
    if args.json:
        print(json.dumps(report))
    else:
        print(text, file=sys.stderr)


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Adds options for the report: its file, and JSON on stdout."""
    parser.add_argument("--out", type=Path, help="report to write; default: results/NAME.json")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")


def write_or_keep(out: Path, write: Callable[[Path], None]) -> None:
    """Writes a result to `out`, or if that fails, into a new temporary folder.

    Raises MediaError after any failure; the sentence says where the result was kept, if anywhere.
    """
    try:
        write(out)
    except (MediaError, OSError) as error:
        kept = _keep(f"made{out.suffix}", write)
        if kept is None:
            raise
        reason = str(error).rstrip(".")
        raise MediaError(f"{reason}; the result was saved in {kept} instead.") from error


@contextlib.contextmanager
def no_empty_folder(folder: Path) -> Iterator[None]:
    """Removes `folder` and its parents at the end if they were made meanwhile and are empty."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    finally:
        for path in (*folder.glob("*"), *made) if made else ():
            with contextlib.suppress(OSError):
                path.rmdir()


def write_report(out: Path | None, report: dict[str, Any]) -> None:
    """Writes a report as JSON, if its option names a file, as write_or_keep does."""
    if out is not None:
        text = json.dumps(report, indent=1) + "\n"
        write_or_keep(out, lambda path: write_text(path, text))


def _keep(name: str, write: Callable[[Path], None]) -> Path | None:
    """A file or folder in a new folder for temporary files; None where it cannot be written."""
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="nbp-kept-"))
        write(folder / name)
    except (MediaError, OSError):
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        return None
    return folder / name


def results_file(args: argparse.Namespace) -> Path:
    """The report's file that the options name. Raises ValueError if its folder does not exist."""
    if args.out is None:
        RESULTS.mkdir(exist_ok=True)
    out: Path = args.out or RESULTS / f"{args.name}.json"
    if not out.parent.is_dir():
        raise ValueError(f"the folder of {out.name} does not exist: {out.parent}")
    try_writing(out)
    return out


def say(args: argparse.Namespace, out: Path, report: dict[str, Any]) -> None:
    """Prints the report on stdout, or one line on stderr."""
    tell(args, report, f"{out}: {len(report['rows'])} rows")
