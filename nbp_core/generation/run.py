"""A running generation: tokens from the sampler, and frames as soon as they are complete.

On a CPU the tokenizer decodes in its own thread while the sampler continues. Steps sampled
meanwhile are held back, so that a step is always returned together with the frames it completed.

Shapes: B samples, frames_BTHWC uint8, tokens_Bthw of the whole video's grid.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from nbp_core.blocks.grid import BlockLayout
from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.shapes import Size3
from nbp_core.generation.records import BlockStep, Generation, Timings
from nbp_core.generation.request import RunRequest
from nbp_core.generation.segments import Segment
from nbp_core.media.files import Frames
from nbp_core.sampling.decoder import Decoder
from nbp_core.sampling.sampler import Sampler, TokenStep, synchronize
from nbp_core.sampling.window import WindowSampler
from nbp_core.tokenizer.conv import StreamState
from nbp_core.tokenizer.interface import Tokenizer, to_clip, to_frames

_States = list[StreamState]
"""The tokenizer's stream states of a batch: on a CPU one per clip, else the first for all."""


@dataclass(frozen=True)
class _Made:
    """A sampled step, and the future frames of the latent frames that it completed."""

    step: TokenStep
    places: Tensor
    fresh_Bthw: Tensor
    decoding: Future[Frames] | None

    @property
    def is_ready(self) -> bool:
        return self.decoding is None or self.decoding.done()


class GenerationRun:
    """Iterator of BlockStep. generation() returns the clip so far.

    As a context manager it closes at the end of the block: its thread ends, and its KV cache and
    CUDA graphs are released. It also closes after its last step, or when it is dropped.
    """

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        request: RunRequest,
        stop: threading.Event | None,
    ) -> None:
        # The clip refers to neither the run nor the generator, so dropping a run ends both.
        self._clip = _Clip(decoder, tokenizer, request, stop)
        self._steps = self._clip.made()

    def __iter__(self) -> Iterator[BlockStep]:
        return self

    def __next__(self) -> BlockStep:
        return next(self._steps)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the run after the current decoding. generation() still returns the clip so far."""
        self._steps.close()

    @property
    def is_ready(self) -> bool:
        """Whether the kernels are compiled. On a new machine this takes some seconds."""
        return self._clip.decoder.is_ready

    def wait_until_ready(self) -> None:
        """Returns once the kernels are compiled. The iterator waits too, before it takes times."""
        self._clip.decoder.wait_until_ready()

    def generation(self, sample: int = 0) -> Generation:
        """The clip so far of one sample of the batch; complete after an iteration to the end."""
        return self._clip.generation(sample)


class _Clip:
    """The clip of a run so far, and the thread that decodes it."""

    def __init__(
        self,
        decoder: Decoder,
        tokenizer: Tokenizer,
        request: RunRequest,
        stop: threading.Event | None,
    ) -> None:
        self.decoder = decoder
        self._config = decoder.model.config
        self._tokenizer = tokenizer
        self._request = request
        self._stop = stop
        self._device = decoder.model.tok_emb.weight.device
        self._rngs = [torch.Generator(self._device).manual_seed(seed) for seed in request.seeds]
        self._frames: list[Frames] = []
        self._shown = 0
        self._latents: list[Tensor] = []
        self._tokenize_s = self._detokenize_s = 0.0
        self._per_step_s: list[float] = []
        self._frames_thread = ThreadPoolExecutor(1, "decoder")
        self._decoding: Future[Frames] | None = None
        """The latest work of this thread."""

    def generation(self, sample: int) -> Generation:
        """See GenerationRun.generation."""
        side = self._config.grid[1] * self._tokenizer.config.space_factor
        # Copies of this sample alone: a view would keep the whole batch in memory.
        empty = np.zeros((0, side, side, 3), np.uint8)
        frames_THWC = np.concatenate([empty, *(batch[sample] for batch in self._frames)])
        nothing = torch.zeros((0, *self._config.grid[1:]), dtype=torch.int64)
        tokens = torch.cat([nothing, *(batch[sample].cpu() for batch in self._latents)])
        return Generation(
            frames_THWC=frames_THWC,
            tokens_thw=tokens.numpy(),
            steps=len(self._per_step_s),
            timings=Timings(
                tokenize_s=self._tokenize_s,
                prefill_s=sum(self._per_step_s[:1]),
                decode_s=sum(self._per_step_s[1:]),
                detokenize_s=self._detokenize_s,
                per_step_s=list(self._per_step_s),
            ),
            manifest=self._request.manifests[sample],
            is_complete=len(frames_THWC) == self._request.num_frames,
        )

    @property
    def _is_stopped(self) -> bool:
        return self._stop is not None and self._stop.is_set()

    def made(self) -> Generator[BlockStep]:
        """Yields the steps of the whole clip. Call it once."""
        try:
            yield from self._advance()
        finally:
            self._frames_thread.shutdown(cancel_futures=True)

    def _advance(self) -> Iterator[BlockStep]:
        self.decoder.wait_until_ready()
        began = time.perf_counter()
        context = self._request.context_BCTHW
        known: Tensor | None = None
        state = self._new_state()
        if context is not None:
            known = self._encode(context).expand(self._request.num_samples, -1, -1, -1)
            self._latents.append(known)
            self._frames.append(self._decode(known, state))
        for number, segment in enumerate(self._request.segments):
            if segment.is_over_window:
                yield from self._advance_window(segment, state, began)
            elif number == 0 and segment.known == (0 if known is None else known.shape[1]):
                yield from self._advance_segment(segment, known, state, began)
            else:
                # The last frames continue, also a context longer than a sequence.
                last_BCTHW = self._last_frames(segment.known)
                carried, state = self._encode(last_BCTHW), self._new_state()
                self._decode(carried, state)
                yield from self._advance_segment(segment, carried, state, began)
            if self._is_stopped:
                return

    def _advance_segment(
        self, segment: Segment, known_Bthw: Tensor | None, state: _States, began: float
    ) -> Iterator[BlockStep]:
        """Yields the steps of one segment."""
        request, config = self._request, self._config
        layout = sequence_layout(config, request.block_shape, segment.total)
        done_latents = sum(latent.shape[1] for latent in self._latents)
        start = done_latents - segment.known
        tokens_Bthw = self._no_tokens(layout.blocks.grid)
        if known_Bthw is not None:
            tokens_Bthw[:, : segment.known] = known_Bthw
        conditions_Bt = request.frame_conditions_Bt
        if conditions_Bt is not None:
            conditions_Bt = conditions_Bt[:, start : start + segment.total]
        sampler = Sampler(self.decoder, layout, request.sampling, self._rngs, self._is_decoding)
        sampled = sampler.stream(
            tokens_Bthw,
            segment.known * config.grid[1] * config.grid[2],
            request.conditions_BP,
            request.null_conditions_BP,
            self._stop,
            conditions_Bt,
        )
        progress = _Progress(layout.blocks, start, segment.known, tokens_Bthw)
        return self._follow(sampled, progress, state, began)

    def _advance_window(
        self, segment: Segment, state: _States, began: float
    ) -> Iterator[BlockStep]:
        """Yields the steps of a segment that continues over the window of a model."""
        blocks = BlockLayout((segment.new, *self._config.grid[1:]), self._request.block_shape)
        tokens_Bthw = self._no_tokens(blocks.grid)
        progress = _Progress(blocks, segment.known, 0, tokens_Bthw)
        return self._follow(self._over_window(segment), progress, state, began)

    def _over_window(self, segment: Segment) -> Generator[TokenStep]:
        """The steps of a segment over the window; the first one also fills the cache."""
        request, began = self._request, time.perf_counter()
        conditions_Bt = request.frame_conditions_Bt
        if conditions_Bt is None:
            assert request.conditions_BP is not None
            conditions_Bt = request.conditions_BP.expand(-1, segment.total)
        sampler = WindowSampler(
            self.decoder.model,
            torch.cat(self._latents, 1),
            request.sampling,
            self._rngs,
            conditions_Bt[:, : segment.known],
            is_decoding=self._is_decoding,
        )
        phase, first = "prefill", 0
        for frame in range(segment.known, segment.total):
            for tokens_Bn in sampler.blocks(conditions_Bt[:, frame]):
                synchronize(self._device)
                seconds = time.perf_counter() - began
                yield TokenStep(
                    phase, tokens_Bn, first, seconds, sampler.cache_length, sampler.cache_bytes
                )
                if self._is_stopped:
                    return
                phase, first, began = "block", first + tokens_Bn.shape[1], time.perf_counter()

    def _no_tokens(self, grid: Size3) -> Tensor:
        """Zeros (B, t, h, w), to be filled with a segment's tokens."""
        size = self._request.num_samples, *grid
        return torch.zeros(size, dtype=torch.int64, device=self._device)

    def _follow(
        self,
        sampled: Generator[TokenStep],
        progress: _Progress,
        state: _States,
        began: float,
    ) -> Iterator[BlockStep]:
        """Yields sampled steps. Frames are decoded once their latent frame is complete.

        After a stop it ends at once and drops the steps that are still held back.
        """
        held: deque[_Made] = deque()
        with closing(sampled):
            for step in sampled:
                places = progress.add(step)
                fresh = progress.take()
                decoding = self._start_decoding(fresh, state) if fresh.shape[1] else None
                held.append(_Made(step, places, fresh, decoding))
                while held and held[0].is_ready and not self._is_stopped:
                    yield self._finished(held.popleft(), began)
        while held and not self._is_stopped:
            yield self._finished(held.popleft(), began)

    def _finished(self, made: _Made, began: float) -> BlockStep:
        """Waits for the frames of a step, adds them to the clip and returns the step."""
        step = made.step
        if made.decoding is not None:
            self._frames.append(made.decoding.result())
            self._latents.append(made.fresh_Bthw)
        shown, self._shown = self._shown, len(self._frames)
        frames = [batch[0] for batch in self._frames[shown:]]
        self._per_step_s.append(step.seconds)
        return BlockStep(
            index=len(self._per_step_s) - 1,
            num_steps=self._request.num_steps,
            phase=step.phase,
            tokens=step.tokens_Bn[0].cpu().numpy(),
            places=made.places.numpy(),
            elapsed=time.perf_counter() - began,
            step_s=step.seconds,
            cache_length=step.cache_length,
            cache_bytes=step.cache_bytes,
            new_frames=np.concatenate(frames) if frames else None,
        )

    def _start_decoding(self, tokens_Bthw: Tensor, state: _States) -> Future[Frames]:
        decoding = self._decoding = self._frames_thread.submit(self._decode, tokens_Bthw, state)
        if self._device.type == "cuda":
            wait([decoding])  # both would share one stream, and steps could not be timed
        return decoding

    def _is_decoding(self) -> bool:
        """Whether frames are being decoded now."""
        return self._decoding is not None and not self._decoding.done()

    def _last_frames(self, num_latents: int) -> Tensor:
        """The last frames so far, as many as make this many latent frames, as clip_BCTHW."""
        count = self._tokenizer.config.num_frames(num_latents)
        frames = np.concatenate(self._frames[-count:], axis=1)[:, -count:]
        return to_clip(frames, self._device)

    def _alone(self, batch: Tensor) -> tuple[Tensor, ...]:
        """The parts of a batch that the tokenizer handles at once: on a CPU single clips, since
        rounding depends on the size of the batch."""
        return batch.chunk(len(batch)) if self._device.type == "cpu" else (batch,)

    def _new_state(self) -> _States:
        """The stream states at the start of a clip, one for each part of the batch."""
        return [{} for _ in range(self._request.num_samples)]

    def _encode(self, clip_BCTHW: Tensor) -> Tensor:
        began = time.perf_counter()
        tokens = torch.cat([self._tokenizer.encode(part) for part in self._alone(clip_BCTHW)])
        synchronize(self._device)
        self._tokenize_s += time.perf_counter() - began
        return tokens

    def _decode(self, tokens_Bthw: Tensor, states: _States) -> Frames:
        """Decodes the next frames (B, T, H, W, C) of the clip with these stream states."""
        began = time.perf_counter()
        parts = [
            to_frames(self._tokenizer.decode(part, state))
            for part, state in zip(self._alone(tokens_Bthw), states, strict=False)
        ]
        self._detokenize_s += time.perf_counter() - began
        return np.concatenate(parts)


class _Progress:
    """Tracks the filled places of a segment and its completed latent frames."""

    def __init__(
        self, blocks: BlockLayout, start: int, num_known: int, tokens_Bthw: Tensor
    ) -> None:
        """start: index of the video's latent frame at which the grid of the blocks begins."""
        self._places = blocks.places_NS.flatten()
        self._offset = start * blocks.grid[1] * blocks.grid[2]
        self._tokens_Bthw = tokens_Bthw
        self._filled_thw = torch.zeros(blocks.grid, dtype=torch.bool)
        self._filled_thw[:num_known] = True
        self._taken = num_known

    def add(self, step: TokenStep) -> Tensor:
        """Writes a step's tokens onto the grid and returns their places (n,) in the video's."""
        places = self._places[step.first : step.first + step.tokens_Bn.shape[1]]
        flat = self._tokens_Bthw.flatten(1)
        flat[:, places.to(flat.device)] = step.tokens_Bn
        self._filled_thw.view(-1)[places] = True
        return places + self._offset

    def take(self) -> Tensor:
        """The tokens of latent frames completed since the last call."""
        whole = self._filled_thw.flatten(1).all(1)
        done = int(whole.long().cumprod(0).sum())
        fresh = self._tokens_Bthw[:, self._taken : done].clone()
        self._taken = done
        return fresh
