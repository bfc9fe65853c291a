"""Frames -> tokens -> frames: the reconstruction by a tokenizer, and its figures.

Shapes: frames_THWC uint8, tokens_thw int64, clip_BCTHW in [0, 1].
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from nbp_core.generation.records import Tokens
from nbp_core.media.fidelity import Fidelity, fidelity
from nbp_core.media.files import Frames
from nbp_core.models.speed_only import SpeedOnlyTokenizer
from nbp_core.tokenizer.interface import Tokenizer, to_frames


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """Frames, their tokens and their reconstruction; times are in seconds."""

    original_THWC: Frames
    """The tokenizer's input: the middle square, resized."""
    frames_THWC: Frames
    tokens_thw: Tokens
    codebook_size: int
    fidelity: Fidelity
    encode_s: float
    decode_s: float

    @property
    def num_codes(self) -> int:
        """Number of different codes among the tokens."""
        return len(np.unique(self.tokens_thw))

    @property
    def bits(self) -> float:
        """Bits of all tokens if every code takes the same number of bits."""
        return self.tokens_thw.size * math.log2(self.codebook_size)

    @property
    def raw_bits(self) -> int:
        """Bits of the same frames as plain 8-bit RGB."""
        return 8 * self.original_THWC.nbytes

    @property
    def ratio(self) -> float:
        """Compression: bits of the raw frames divided by bits of the tokens."""
        return self.raw_bits / self.bits


def reconstruct(tokenizer: Tokenizer, clip_BCTHW: Tensor) -> Reconstruction:
    """Encodes and decodes one clip. Raises ValueError for the tokenizer of a speed-only model."""
    if isinstance(tokenizer, SpeedOnlyTokenizer):
        raise ValueError("This model is untrained and has no tokenizer; choose a trained one.")
    began = time.perf_counter()
    tokens = tokenizer.encode(clip_BCTHW).cpu()
    encoded = time.perf_counter()
    frames: Frames = to_frames(tokenizer.decode(tokens.to(clip_BCTHW.device)))[0]
    ended = time.perf_counter()
    original: Frames = to_frames(clip_BCTHW)[0]
    return Reconstruction(
        original_THWC=original,
        frames_THWC=frames,
        tokens_thw=tokens[0].numpy(),
        codebook_size=tokenizer.config.codebook_size,
        fidelity=fidelity(original, frames),
        encode_s=encoded - began,
        decode_s=ended - encoded,
    )
