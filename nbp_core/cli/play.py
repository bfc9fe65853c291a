"""The verb `play`: a clip from keys in a file, as a player would press them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nbp_core.cli.options import (
    add_loading_options,
    add_sampling_options,
    add_scale_option,
    pipeline_of,
    sampling_of,
    write_or_keep,
)
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import PLAY_FPS, format_block_shape
from nbp_core.config.timeline import format_timeline, parse_timeline
from nbp_core.data.key_frames import reconstructed
from nbp_core.data.keys import KeyClip
from nbp_core.data.recorded import read_recorded
from nbp_core.evaluation.keys import psnr_over_time
from nbp_core.generation.offer import WORLDS
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.play import Play, PlayStep
from nbp_core.generation.recording import PlayRecording, read_recording, read_text
from nbp_core.media.files import Frames, MediaError, is_video, shown_name, try_writing
from nbp_core.media.video import read_context, write_video

Source = tuple[str, ...] | PlayRecording | KeyClip
"""Where keys come from: a text file, a recording or an episode of the simulator."""


def add_verb(verbs: Any) -> None:
    """Adds the verb to the command line's parser."""
    parser = verbs.add_parser(
        "play", help="make a clip from keys, each held for a quarter of a second"
    )
    parser.add_argument("--model", type=Path, required=True, help="folder of a transformer")
    keys = parser.add_mutually_exclusive_group(required=True)
    keys.add_argument(
        "--keys", type=Path,
        help="text file of keys separated by spaces (left*4 is left, four times); or a recording "
        "(JSON, or a clip that `play` wrote), which has its own start, world and sampling",
    )  # fmt: skip
    keys.add_argument(
        "--episode", type=Path, metavar="FILE.json",
        help="episode of the simulator, such as assets/play/soccer.json: plays its keys from its "
        "first frame; the clip shows the simulator on the left and the model on the right",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="clip to write, .mp4")
    parser.add_argument(
        "--record", type=Path, metavar="FILE.json",
        help="recording to write: start, keys and settings, with which --keys repeats the clip",
    )  # fmt: skip
    parser.add_argument(
        "--world",
        choices=WORLDS,
        help="what the keys move, the robot arm or the camera; default: arm",
    )
    parser.add_argument(
        "--first-frame", type=Path,
        help="picture or clip to start from; default in the arm world: the model makes a scene",
    )  # fmt: skip
    parser.add_argument("--block", help="block shape, such as 1x1x16; default: the model's own")
    add_sampling_options(parser)
    add_loading_options(parser)
    add_scale_option(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=_play)


def read_keys(path: Path) -> tuple[str, ...] | PlayRecording:
    """The keys of a text file, or a recording.

    Raises MediaError for a file that cannot be read, ValueError for text that is no list of keys
    and for a wrong setting of a recording.
    """
    if is_video(path):
        return read_recording(path)
    try:
        text = read_text(path)
    except UnicodeDecodeError as error:
        raise MediaError(f"{shown_name(path)} cannot be read as a file of keys.") from error
    if text.lstrip().startswith("{"):
        return read_recording(path)
    try:
        return parse_timeline(text)
    except ValueError as error:
        raise ValueError(f"{shown_name(path)}: {error}") from error


def _play(args: argparse.Namespace) -> None:
    if args.out.suffix.lower() != ".mp4":
        raise ValueError(f"--out must end in .mp4, not {args.out.name!r}")
    if args.record is not None and args.record.absolute() == args.out.absolute():
        raise ValueError(f"--out and --record name one file: {args.out}")
    sampling = sampling_of(args)
    source = read_keys(args.keys) if args.episode is None else read_recorded(args.episode)
    for path in (args.out, args.record):
        if path is not None:
            try_writing(path)
    _check_alone(args, source, sampling)
    first = None if args.first_frame is None else read_context(args.first_frame, max_frames=1)[0]
    pipeline = pipeline_of(args)
    opened, keys = _opened(args, pipeline, source, first, sampling)
    with opened as play:
        play.check(*keys)
        # An episode is followed beyond the reach too, as it was in the simulator.
        has_reach = not isinstance(source, KeyClip)
        pressed: Iterator[PlayStep] = (play.step(key, has_reach) for key in keys)
        if isinstance(source, PlayRecording):
            pressed = play.replay(source)
        steps = list(tqdm(pressed, total=len(keys), unit="key", disable=args.json))
        start_THWC = play.first_frame_HWC[None]
        recording = play.recording(_start(args, source))
    num_out = sum(step.key != key for step, key in zip(steps, keys, strict=True))
    if num_out:
        where = "lead out of the arm's reach, so they move nothing"
        print(f"{num_out} of {len(keys)} keys {where}", file=sys.stderr)
    frames_THWC = np.concatenate([start_THWC, *(step.frames_THWC for step in steps)])
    report = {
        "out": str(args.out),
        **_facts(pipeline, recording, len(steps)),
        # medians per latent frame
        "sample_s": float(np.median([step.sample_s for step in steps])),
        "decode_s": float(np.median([step.decode_s for step in steps])),
    }
    if isinstance(source, KeyClip):
        report["psnr"] = psnr = _psnr(pipeline, source, frames_THWC)
        frames_THWC = np.concatenate([source.frames_THWC, frames_THWC], axis=2)
        for name, values in psnr.items():
            print(
                f"PSNR to the simulator after 1, 2, 3 ... latent frames, {name}: "
                + " ".join(f"{value:.1f}" for value in values),
                file=sys.stderr,
            )
    write_or_keep(
        args.out,
        lambda out: write_video(
            out, frames_THWC, fps=PLAY_FPS, scale=args.scale, comment=recording.comment()
        ),
    )
    if args.record is not None:
        write_or_keep(args.record, recording.write)
    if args.json:
        print(json.dumps(report))


def _check_alone(args: argparse.Namespace, source: Source, sampling: SamplingConfig) -> None:
    """Raises ValueError for options that a recording or an episode already decides."""
    named = [args.world, args.first_frame]
    if isinstance(source, KeyClip) and any(option is not None for option in named):
        raise ValueError("an episode has its own start and world: leave these options out")
    if not isinstance(source, PlayRecording):
        return
    named.append(args.block)
    if any(option is not None for option in named) or sampling != SamplingConfig():
        raise ValueError(
            f"{shown_name(args.keys)} is a recording, which has its own start, world and "
            "sampling: leave these options out"
        )


def _opened(
    args: argparse.Namespace,
    pipeline: VideoPipeline,
    source: Source,
    first_HWC: Frames | None,
    sampling: SamplingConfig,
) -> tuple[Play, tuple[str, ...]]:
    """(a play at its start, the keys to press)."""
    if isinstance(source, PlayRecording):
        for difference in source.differences(pipeline.fingerprint):
            print(f"{difference}.", file=sys.stderr)
        return pipeline.play_recording(source), source.pressed
    if isinstance(source, KeyClip):
        return pipeline.play(source.frames_THWC[0], "arm", sampling), source.keys
    return pipeline.play(first_HWC, args.world or "arm", sampling), source


def _start(args: argparse.Namespace, source: Source) -> str:
    """A few words on the first frame."""
    if isinstance(source, PlayRecording):
        return source.start
    path = args.episode or args.first_frame
    return "" if path is None else shown_name(path)


def _psnr(pipeline: VideoPipeline, episode: KeyClip, frames_THWC: Frames) -> dict[str, list[float]]:
    """PSNR to the simulator in dB for each latent frame after the first: of the model, of the
    tokenizer's reconstruction (the upper bound) and of the first frame held still."""
    made = reconstructed(pipeline.tokenizer, episode.frames_THWC, pipeline.device)
    others = {
        "model": frames_THWC,
        "tokenizer": made,
        "first frame held still": np.repeat(episode.frames_THWC[:1], len(frames_THWC), 0),
    }
    return {
        name: psnr_over_time(episode, replace(episode, frames_THWC=other))
        for name, other in others.items()
    }


def _facts(pipeline: VideoPipeline, recording: PlayRecording, num_steps: int) -> dict[str, Any]:
    """The settings and keys of the play, for the report."""
    shape = recording.sampling.block_shape or pipeline.transformer.config.block_shape
    return {
        "model": pipeline.name,
        "world": recording.world,
        **pipeline.identity,
        "block_shape": format_block_shape(shape),
        "seed": recording.sampling.seed,
        "temperature": recording.sampling.temperature,
        "keys": format_timeline(recording.pressed),
        "latent_frames": num_steps,
    }
