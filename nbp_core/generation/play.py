"""A clip that answers to keys: one latent frame (four frames) per key, without end.

KV cache and decoder state persist between keys. Only the first frame is ever encoded.
Shapes: frames_THWC uint8, tokens_hw int64.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from nbp_core.config.sampling import SamplingConfig
from nbp_core.generation.records import Tokens
from nbp_core.media.files import Frames
from nbp_core.sampling.window import WindowSampler
from nbp_core.tokenizer.conv import StreamState
from nbp_core.tokenizer.interface import Tokenizer, to_frames
from nbp_core.transformer.conditions import Conditions
from nbp_core.transformer.model import BlockTransformer

World = Literal["arm", "camera"]
WORLDS: tuple[World, ...] = get_args(World)
PLAY_FPS = 16
"""Frames shown per second."""
CAMERA_STILL = "still"


@dataclass(frozen=True, kw_only=True, slots=True)
class PlayStep:
    """The frames and tokens of one key, and their times."""

    frames_THWC: Frames
    """The frames of one latent frame."""
    tokens_hw: Tokens
    sample_s: float
    decode_s: float
    num_steps: int
    """Number of forward passes."""


def keys_of(model: BlockTransformer, world: World) -> tuple[str, ...]:
    """The keys of a world; empty if the model was not trained for it."""
    config = model.config
    if world == "arm":
        return tuple(key for key in config.keys if key != CAMERA_STILL)
    kinds = ("pan", "zoom", "turn")
    moves = tuple(name for name in config.actions if name.split("-")[0] in kinds)
    return (CAMERA_STILL, *moves) if CAMERA_STILL in config.keys else ()


class Play:
    """A stream of frames under key control: a context manager, used by one thread at a time."""

    def __init__(
        self,
        transformer: BlockTransformer,
        tokenizer: Tokenizer,
        conditions: Conditions,
        first_Bhw: Tensor,
        world: World,
        sampling: SamplingConfig,
    ) -> None:
        """first_Bhw: tokens of the first frame, (1, h, w).

        Raises ValueError if the model does not support this world or this sampling.
        """
        self.keys = keys_of(transformer, world)
        if not self.keys:
            raise ValueError(f"model {transformer.config.name!r} has no keys for the {world} world")
        device = transformer.tok_emb.weight.device
        rng = torch.Generator(device).manual_seed(sampling.seed)
        self._conditions = conditions
        self._tokenizer = tokenizer
        self._state: StreamState = {}
        self._sampler: WindowSampler | None = WindowSampler(transformer, first_Bhw, sampling, rng)
        self.first_frame_HWC: Frames = self._decode(first_Bhw)[0]
        """The first frame as the tokenizer receives it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the cache and the decoder's state. Later steps raise ValueError."""
        self._sampler = None
        self._state.clear()

    def step(self, key: str) -> PlayStep:
        """Generates the next latent frame while `key` is held.

        Raises ValueError for a key that is not in `keys` and after close().
        """
        if self._sampler is None:
            raise ValueError("this play is over")
        if key not in self.keys:
            raise ValueError(f"unknown key {key!r}; there are {', '.join(self.keys)}")
        began = time.perf_counter()
        tokens_Bhw = self._sampler.next(self._conditions.id(key))
        sampled = time.perf_counter()
        frames_THWC = self._decode(tokens_Bhw)
        return PlayStep(
            frames_THWC=frames_THWC,
            tokens_hw=tokens_Bhw[0].cpu().numpy(),
            sample_s=sampled - began,
            decode_s=time.perf_counter() - sampled,
            num_steps=self._sampler.num_steps,
        )

    def _decode(self, tokens_Bhw: Tensor) -> Frames:
        frames: Frames = to_frames(self._tokenizer.decode(tokens_Bhw[:, None], self._state))[0]
        return frames
