"""Prints the tokens of one small model, decoded by compiled steps and by plain ones, as JSON.

A program of its own, because a process has one instruction set and an emulated processor one
Python: python -m tests.packed.decoded_tokens NAME_OF_AN_INSTRUCTION_SET
"""

from __future__ import annotations

import json
import sys
from copy import deepcopy
from dataclasses import replace
from typing import Final

import torch

from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import Size3
from nbp_core.packed.formats import formats_on
from nbp_core.packed.linear import CompiledLinear
from nbp_core.packed.model import pack
from nbp_core.runtime import runtime, start
from nbp_core.sampling.decoder import Decoder
from tests.support.models import build_transformer, decode_tokens, transformer_config

GRID: Final[Size3] = (3, 4, 16)
ROW_BLOCK: Final[Size3] = (1, 1, 16)
GREEDY = SamplingConfig(temperature=0)
SAMPLED = SamplingConfig(top_k=30, top_p=0.9)


def decoded() -> dict[str, dict[str, list[int]]]:
    """Number format -> tokens of the packed model, greedy and sampled, by compiled steps and by
    calls; under "float32" the greedy tokens of the same weights in PyTorch alone."""
    config = replace(transformer_config(grid=GRID), width=128, num_heads=2)
    model = build_transformer(config)
    for parameter in model.parameters():
        parameter.copy_(parameter.half())  # no format but int8 and int4 rounds these further
    known = torch.zeros(1, *GRID, dtype=torch.int64)
    found = {"float32": {"greedy": decode_tokens(model, ROW_BLOCK, GREEDY, 0, known)[0].tolist()}}
    for weights in formats_on("cpu"):
        packed = pack(deepcopy(model), weights)
        assert isinstance(packed.video_head, CompiledLinear)
        found[weights] = {}
        for name, sampling in (("greedy", GREEDY), ("sampled", SAMPLED)):
            for way, decoder in (("", None), (" by calls", Decoder(packed))):
                tokens_Bn = decode_tokens(packed, ROW_BLOCK, sampling, 0, known, decoder=decoder)
                found[weights][name + way] = tokens_Bn[0].tolist()
    return found


if __name__ == "__main__":
    start(sys.argv[1], num_threads=1)
    chosen = runtime().instructions
    name = None if chosen is None else chosen.name
    with torch.no_grad():
        print(json.dumps({"instructions": name, "tokens": decoded()}))
