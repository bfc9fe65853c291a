"""The verb `play`: a clip from keys in a file, as a player would press them."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from nbp_core.cli.options import add_sampling_options, sampling_of
from nbp_core.config.shapes import format_block_shape, parse_block_shape
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.play import PLAY_FPS, WORLDS, PlayStep
from nbp_core.media.files import MediaError, shown_name
from nbp_core.media.video import read_context, write_video

MOST_KEYS = 100_000


def add_verb(verbs: Any) -> None:
    """Adds the verb to the command line's parser."""
    parser = verbs.add_parser("play", help="make a clip from keys, a quarter of a second each")
    parser.add_argument("--model", type=Path, required=True, help="folder of a transformer")
    parser.add_argument(
        "--keys", type=Path, required=True,
        help="text file of keys, with spaces between; left*4 is left, four times",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, help="clip to write (mp4)")
    parser.add_argument("--world", choices=WORLDS, default="arm")
    parser.add_argument("--first-frame", type=Path, help="picture or clip to start from")
    parser.add_argument("--block", help="block shape, such as 1x1x16; default: the model's own")
    add_sampling_options(parser)
    parser.add_argument("--scale", type=int, choices=range(1, 9), default=4, metavar="1-8")
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=_play)


def read_keys(path: Path) -> list[str]:
    """The keys of a file. Raises MediaError for one that cannot be read, ValueError for a wrong
    number of times or of keys."""
    try:
        words = path.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise MediaError(f"{shown_name(path)} cannot be read as a file of keys.") from error
    keys: list[str] = []
    for word in words:
        key, star, times = word.partition("*")
        if star and not (times.isdecimal() and 0 < int(times) <= MOST_KEYS):
            raise ValueError(f"{word!r} is not a key and a number of times, such as left*4")
        keys += [key] * (int(times) if star else 1)
        if len(keys) > MOST_KEYS:
            raise ValueError(f"a file of keys may hold {MOST_KEYS:,}, not more")
    if not keys:
        raise ValueError(f"{shown_name(path)} holds no keys")
    return keys


def _play(args: argparse.Namespace) -> None:
    shape = None if args.block is None else parse_block_shape(args.block)
    sampling, keys = sampling_of(args, shape), read_keys(args.keys)
    if not args.out.parent.is_dir():
        raise ValueError(f"the folder of {args.out.name} does not exist: {args.out.parent}")
    first = None if args.first_frame is None else read_context(args.first_frame, max_frames=1)[0]
    pipeline = VideoPipeline.from_pretrained(
        args.model, device=args.device, cosmos=args.cosmos, int8=args.int8, int4=args.int4
    )
    with pipeline.play(first, args.world, sampling) as play:
        unknown = sorted(set(keys) - set(play.keys))
        if unknown:
            raise ValueError(f"unknown key {unknown[0]!r}; there are {', '.join(play.keys)}")
        steps = [play.step(key) for key in tqdm(keys, unit="key", disable=args.json)]
        start_THWC = play.first_frame_HWC[None]
    frames_THWC = np.concatenate([start_THWC, *(step.frames_THWC for step in steps)])
    facts = _facts(args, pipeline, shape or pipeline.transformer.config.block_shape, steps)
    comment = json.dumps({**facts, "keys": keys})
    write_video(args.out, frames_THWC, fps=PLAY_FPS, scale=args.scale, comment=comment)
    if args.json:
        print(json.dumps({"out": str(args.out), **facts, **_timings(steps)}))


def _facts(
    args: argparse.Namespace,
    pipeline: VideoPipeline,
    shape: tuple[int, int, int],
    steps: list[PlayStep],
) -> dict[str, Any]:
    """All that is needed to repeat it, but for the first frame and the keys."""
    return {
        "generated": True,
        "software": "NBP Studio",
        "model": pipeline.name,
        "world": args.world,
        **pipeline.identity,
        "block_shape": format_block_shape(shape),
        "seed": args.seed,
        "temperature": args.temperature,
        "latent_frames": len(steps),
    }


def _timings(steps: list[PlayStep]) -> dict[str, float]:
    """Medians per latent frame, in seconds."""
    return {
        "sample_s": float(np.median([step.sample_s for step in steps])),
        "decode_s": float(np.median([step.decode_s for step in steps])),
    }
