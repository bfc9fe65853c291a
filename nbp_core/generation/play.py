"""A clip that follows keys: one latent frame (four frames) per key, for any length.

The KV cache and the tokenizer's decoder state persist between keys. Only the first frame is
encoded.
Shapes: frames_THWC uint8, tokens_hw int64, t latent frames.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.timeline import format_timeline
from nbp_core.generation.offer import checked_keys
from nbp_core.generation.reach import Reach
from nbp_core.generation.recording import (
    Fingerprint,
    PlayRecording,
    SamplingChange,
    World,
)
from nbp_core.generation.records import Tokens
from nbp_core.media.files import Frames
from nbp_core.sampling.window import WindowSampler
from nbp_core.tokenizer.conv import StreamState
from nbp_core.tokenizer.interface import Tokenizer, to_frames
from nbp_core.transformer.conditions import Conditions
from nbp_core.transformer.model import BlockTransformer


@dataclass(frozen=True, kw_only=True, slots=True)
class PlayStep:
    """The frames and tokens of one key, and their times."""

    key: str
    """The key that was followed: `stay`, with the same grip, if the pressed one leads out of the
    arm's reach."""
    frames_THWC: Frames
    """The four frames of one latent frame, uint8."""
    tokens_hw: Tokens
    """The latent frame's tokens, int64 (h, w)."""
    sample_s: float
    """Seconds of the forward passes and their sampling."""
    decode_s: float
    """Seconds from tokens to frames."""
    num_steps: int
    """Number of forward passes."""


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
        fingerprint: Fingerprint,
    ) -> None:
        """first_Bhw: tokens of the first frame, (1, h, w).

        Raises ValueError if the model does not support this world or this sampling.
        """
        self.keys = checked_keys(transformer.config, world)
        device = transformer.tok_emb.weight.device
        self.world = world
        self._key_guidance = transformer.config.key_guidance
        self.sampling = sampling = sampling.guided(self._key_guidance)
        """The current settings; `change` replaces them."""
        self.fingerprint = fingerprint
        self._rng = torch.Generator(device).manual_seed(sampling.seed)
        self._transformer = transformer
        self._conditions = conditions
        self._tokenizer = tokenizer
        self._state: StreamState = {}
        self._first_Bhw = first_Bhw
        self._recent: deque[tuple[int, Tensor]] = deque(maxlen=transformer.config.window)
        """Condition id and tokens (1, h, w) of the most recent latent frames."""
        self._reach = Reach(transformer.config.key_reach)
        self._followed: list[str] = []
        self._first_sampling = sampling
        self._changes: list[SamplingChange] = []
        self._is_closed = False
        self._sampler: WindowSampler | None = self._new_sampler(sampling)
        """None after a latent frame that failed; the next one begins with a new sampler."""
        self.first_frame_HWC: Frames = self._decode(first_Bhw)[0]
        """The first frame as the tokenizer receives it."""

    def _new_sampler(self, sampling: SamplingConfig) -> WindowSampler:
        """A sampler that continues from the most recent latent frames."""
        known_Bthw = torch.stack([self._first_Bhw, *(tokens for _, tokens in self._recent)], 1)
        ids = [self._conditions.id(None), *(condition for condition, _ in self._recent)]
        return WindowSampler(
            self._transformer,
            known_Bthw,
            sampling,
            [self._rng],
            conditions_Bt=torch.tensor([ids], device=known_Bthw.device),
            num_dropped=len(self._followed) - len(self._recent),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the cache and the decoder's state. Later steps raise ValueError."""
        self._is_closed = True
        self._sampler = None
        self._state.clear()

    def change(self, sampling: SamplingConfig) -> None:
        """Changes block shape, temperature or other settings from the next key on.

        The cache is recomputed from the most recent latent frames, which takes about as long as one
        key. The random numbers continue, so a new seed has no effect. Raises ValueError, and
        changes nothing, for settings that the model does not support and after close().
        """
        self._set(sampling)

    def _set(self, sampling: SamplingConfig) -> WindowSampler:
        if self._is_closed:
            raise ValueError("this play is over")
        sampling = sampling.guided(self._key_guidance)
        self._sampler = sampler = self._new_sampler(sampling)
        self.sampling = sampling
        change = SamplingChange(key=len(self._followed), sampling=sampling)
        if self._changes and self._changes[-1].key == change.key:
            self._changes.pop()  # no latent frame was generated with it
        self._changes.append(change)
        return sampler

    def recording(self, start: str = "") -> PlayRecording:
        """The recording of all keys so far, to write to a file and replay; also after close().

        start: a description of the first frame, for people. Raises ValueError before the first key.
        """
        if not self._followed:
            raise ValueError("no key was pressed yet, so there is nothing to record")
        rows = self._first_Bhw[0].tolist()
        return PlayRecording(
            world=self.world,
            keys=format_timeline(self._followed),
            sampling=self._first_sampling,
            changes=tuple(self._changes),
            first_frame=tuple(tuple(row) for row in rows),
            start=start,
            fingerprint=self.fingerprint,
        )

    def replay(self, recording: PlayRecording) -> Iterator[PlayStep]:
        """Presses the keys of a recording, and changes the settings at the same keys.

        Every key is followed as it was then. Raises ValueError for a key that is not in `keys`,
        before the first step.
        """
        script = recording.script
        self.check(*(key for key, _ in script))
        for key, change in script:
            yield self.follow(key, change)

    def follow(self, key: str, change: SamplingConfig | None) -> PlayStep:
        """Presses a key of a recording after the change of settings before it, if there is one.

        After any error the same call can be repeated. Raises ValueError as `change` and `step` do.
        """
        if change is not None:
            self.change(change)
        return self.step(key, has_reach=False)

    def check(self, *keys: str) -> None:
        """Raises ValueError for the first key that is not in `keys`."""
        unknown = sorted(set(keys) - set(self.keys))
        if unknown:
            raise ValueError(f"unknown key {unknown[0][:40]!r}; there are {', '.join(self.keys)}")

    def step(self, key: str, has_reach: bool = True) -> PlayStep:
        """Generates the next latent frame while `key` is held.

        A key that leads out of the arm's reach (the model's `key_reach`) moves nothing. Without
        `has_reach` every key is followed: those of recordings and episodes were chosen before.
        Raises ValueError for a key that is not in `keys` and after close(). After any error, also
        one in the middle (no memory), the play is as it was before this key.
        """
        self.check(key)
        followed = self._reach.limited(key) if has_reach else key
        self.check(followed)
        step = self._generate(followed)
        self._reach.count(followed)
        return step

    def _generate(self, key: str) -> PlayStep:
        # A new sampler is filled from the latent frames, not step by step, which shows in the
        # frames. So it counts as a change of settings, and a replay has a new one here too.
        sampler = self._sampler or self._set(self.sampling)
        rng_state, state = self._rng.get_state(), self._state.copy()
        try:
            step, tokens_Bhw = self._next(sampler, key)
        except BaseException:
            self._sampler = None
            self._rng.set_state(rng_state)
            self._state = state
            raise
        self._recent.append((self._conditions.id(key), tokens_Bhw))
        self._followed.append(key)
        return step

    def _next(self, sampler: WindowSampler, key: str) -> tuple[PlayStep, Tensor]:
        began = time.perf_counter()
        tokens_Bhw = sampler.next(self._conditions.id(key))
        sampled = time.perf_counter()
        frames_THWC = self._decode(tokens_Bhw)
        step = PlayStep(
            key=key,
            frames_THWC=frames_THWC,
            tokens_hw=tokens_Bhw[0].cpu().numpy(),
            sample_s=sampled - began,
            decode_s=time.perf_counter() - sampled,
            num_steps=sampler.num_steps,
        )
        return step, tokens_Bhw

    def _decode(self, tokens_Bhw: Tensor) -> Frames:
        frames: Frames = to_frames(self._tokenizer.decode(tokens_Bhw[:, None], self._state))[0]
        return frames
