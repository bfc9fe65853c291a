"""Times one next-token model in this project and in Hugging Face transformers.

Both models have GPT-2's architecture and random weights: learned positions, exact GELU, an untied
head. The figures are median times of a token after a known context. transformers is a dependency
group of its own.
"""

from __future__ import annotations

import importlib.util
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import torch

from nbp_core.bench.against.figures import Against, median_ms
from nbp_core.bench.floor import time_steps
from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.models import TransformerConfig
from nbp_core.config.presets import ELASTIC_SIZES, HEAD_WIDTH, PAPER_PRESETS
from nbp_core.models.speed_only import random_packed
from nbp_core.packed.formats import WeightFormat, compute_dtype
from nbp_core.transformer.model import num_parameters

KNOWN_TOKENS = 512
_TOKENS = replace(PAPER_PRESETS["XL"], block_shape=(1, 1, 1))
_SMALL_LAYERS, _SMALL_WIDTH = ELASTIC_SIZES["small"]
SHAPES = {
    "small": replace(
        _TOKENS,
        name="small",
        num_layers=_SMALL_LAYERS,
        width=_SMALL_WIDTH,
        num_heads=_SMALL_WIDTH // HEAD_WIDTH,
    ),
    "XL, 6 of 24 layers": replace(_TOKENS, name="XL, 6 of 24 layers", num_layers=6),
}
"""Sizes to compare. Six layers suffice, since the time of a step grows with their number."""


def check_installed() -> None:
    """Raises ValueError, which says how to install it, if transformers is missing."""
    if importlib.util.find_spec("transformers") is None:
        raise ValueError(
            "Hugging Face transformers is not installed: python -m pip install --group against"
        )


def compare(name: str, weights: WeightFormat, num_tokens: int, rounds: int) -> Against:
    """Times one of SHAPES. `weights` is our format; their model has the dtype that ours uses."""
    config = SHAPES[name]
    ours = random_packed(config, "cpu", weights)
    dtype = compute_dtype(weights)
    theirs = _their_model(config, dtype)
    assert sum(p.numel() for p in theirs.parameters()) == num_parameters(config)
    layout = sequence_layout(config, (1, 1, 1))
    our_ms, their_ms = median_ms(
        lambda: time_steps(ours, layout, KNOWN_TOKENS, num_tokens)[1:],
        lambda: _time_theirs(theirs, config.codebook_size, num_tokens),
        rounds,
    )
    return Against(
        other="transformers",
        model=name,
        block="1x1x1",
        our_format=weights,
        their_dtype=str(dtype).removeprefix("torch."),
        threads=torch.get_num_threads(),
        steps=num_tokens,
        our_ms=our_ms,
        their_ms=their_ms,
    )


def _their_model(config: TransformerConfig, dtype: torch.dtype) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    shape = GPT2Config(
        vocab_size=config.codebook_size,
        n_positions=config.max_len,
        n_embd=config.width,
        n_layer=config.num_layers,
        n_head=config.num_heads,
        activation_function="gelu",
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=None,
    )
    model: Any = GPT2LMHeadModel(shape)  # its decorated `to` has no types
    return model.to(dtype).eval()


class _Clock:
    """A streamer for `generate` that records the time of each token."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def put(self, tokens: Any) -> None:
        self.times.append(time.perf_counter())

    def end(self) -> None:
        """Required by the streamer protocol."""


def _time_theirs(model: Any, vocab: int, num_tokens: int) -> list[float]:
    """Seconds of each token of their `generate`, sampled with the same filters."""
    known = torch.randint(0, vocab, (1, KNOWN_TOKENS))
    clock = _Clock()
    model.generate(
        known,
        attention_mask=torch.ones_like(known),
        max_new_tokens=num_tokens,
        do_sample=True,
        top_k=16_000,
        top_p=0.9,
        use_cache=True,
        pad_token_id=0,
        streamer=clock,
    )
    # The first time is the prompt's, the second is the end of the prefill.
    times = clock.times[1:]
    return [b - a for a, b in pairwise(times)]
