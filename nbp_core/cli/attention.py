"""The verb `attention`: writes the map of a head or a layer as a picture or as exact weights."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from nbp_core.attention_maps.figure import WRITERS
from nbp_core.attention_maps.pictures import parse_head
from nbp_core.attention_maps.view import AttentionView
from nbp_core.cli.options import add_device_option, tell, write_or_keep
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import CLIP_FRAMES, format_block_shape, parse_block_shape
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.media.files import try_writing
from nbp_core.media.video import read_context


def add_verb(verbs: Any) -> None:
    """Adds the verb to the command line's parser."""
    parser = verbs.add_parser("attention", help="draw the attention map of a head over a clip")
    parser.add_argument("--model", type=Path, required=True, help="folder of a transformer")
    parser.add_argument(
        "--action", help="named action of the clip; without --context a clip of it is generated"
    )
    parser.add_argument(
        "--context", type=Path,
        help="clip to read, at 8 frames per second; default: a clip is generated",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, help="seed of the generated clip; default: 0")
    parser.add_argument("--block", help="block shape, such as 1x1x16; default: the model's own")
    parser.add_argument("--layer", type=int, default=1, help="layer, counted from 1; default: 1")
    parser.add_argument(
        "--head", default="mean",
        help="head, counted from 1, or mean or max over all heads of the layer; default: mean",
    )  # fmt: skip
    add_device_option(parser)
    parser.add_argument(
        "--out", type=Path, required=True,
        help=".png, .svg or .pdf: a labelled figure on a log scale; .npz: exact weights and the"
        " content of each position",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object on stdout")
    parser.set_defaults(run=_attention)


def _attention(args: argparse.Namespace) -> None:
    head = parse_head(args.head)
    write = WRITERS.get(args.out.suffix.lower())
    if write is None:
        raise ValueError(f"--out must end in .png, .svg, .pdf or .npz, not {args.out.name!r}")
    try_writing(args.out)
    if args.context is not None and args.seed is not None:
        raise ValueError("--seed is that of a generated clip: leave it out with --context")
    seed = args.seed or 0
    frames_THWC = None if args.context is None else read_context(args.context, CLIP_FRAMES)
    shape = None if args.block is None else parse_block_shape(args.block)
    pipeline = VideoPipeline.from_pretrained(args.model, device=args.device)
    if frames_THWC is None:
        sampling = SamplingConfig(block_shape=shape, seed=seed)
        tokens_thw = pipeline.generate(args.action, sampling=sampling).tokens_thw
    else:
        tokens_thw = pipeline.tokenize(frames_THWC)
    began = time.perf_counter()
    view = pipeline.attention(tokens_thw, args.action, shape)
    weights_LL = view.map(args.layer - 1, head)
    seconds = time.perf_counter() - began
    report = {
        "out": str(args.out),
        "model": pipeline.name,
        **pipeline.identity,
        "tokenizer": pipeline.tokenizer_name,
        "device": pipeline.device,
        "clip": f"generated, seed {seed}" if args.context is None else args.context.name,
        "action": args.action,
        "block": format_block_shape(view.block_shape),
        "layer": args.layer,
        "head": args.head,
        "positions": view.length,
        "seconds": seconds,
    }
    text = json.dumps(report, sort_keys=True)
    write_or_keep(args.out, lambda out: write(out, weights_LL, view.positions(), text))
    tell(args, report, _text(report, view))


def _text(report: dict[str, Any], view: AttentionView) -> str:
    return (
        f"{report['out']}: layer {report['layer']} of {view.num_layers}, head {report['head']}, "
        f"{view.length:,} positions in blocks of {report['block']}, made in "
        f"{report['seconds']:.2f} s on {report['device']}"
    )
