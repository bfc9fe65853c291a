"""A stand-in for VideoPipeline: no weights, as slow or as broken as a test wants it."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import pytest

from app.session import Session
from nbp_core.config.models import KeyAxis
from nbp_core.config.presets import HEAD_WIDTH, TOKENIZER_PRESETS, elastic
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import CLIP_FRAMES, FIGURE6_SHAPES, Size3
from nbp_core.generation.odds import TokenOdds
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.play import PlayStep
from nbp_core.generation.reach import Reach
from nbp_core.generation.reconstruction import Reconstruction
from nbp_core.generation.recording import (
    Fingerprint,
    PlayRecording,
    SamplingChange,
    World,
    fingerprint_of,
)
from nbp_core.generation.records import BlockStep, Generation, Timings
from nbp_core.generation.request import GenerateRequest
from nbp_core.media.fidelity import fidelity
from nbp_core.media.files import Frames
from nbp_core.media.video import crop_resize

ACTIONS = ("door-open", "drawer-close", "pan-left", "zoom-in")
GRID = (5, 16, 16)
VALUES: dict[str, Any] = {
    "model": "fake", "start": "action", "action": "door-open", "picture": None, "clip": None,
    "block": "1x1x16", "num_frames": 17, "temperature": 1.0, "top_k": 100, "top_p": 0.9,
    "guidance": 1.0, "seed": 7, "actions": "", "crop": 0.5,
}  # fmt: skip
"""What the Generate page sends, in its order."""


class FakeRun:
    """Rows of random tokens; frames of one flat colour each."""

    def __init__(
        self, pipeline: FakePipeline, request: GenerateRequest, stop: threading.Event | None
    ) -> None:
        self.pipeline = pipeline
        self.request = request
        self.stop = stop
        self.num_frames = request.num_frames
        self.shape = request.sampling.block_shape or FIGURE6_SHAPES[0]
        self.rng = np.random.default_rng(request.sampling.seed)
        self.frames: list[Frames] = []
        self.seconds: list[float] = []
        self.is_beside = False
        self.others: list[FakeRun] = []
        self.tokens = np.full((1 + (self.num_frames - 1) // 4, *GRID[1:]), 0, np.int64)

    def __iter__(self) -> Iterator[BlockStep]:
        begun = time.perf_counter()
        context = self.request.frames_THWC
        if context is not None:
            self.frames += [context]
        known = 0 if context is None else 1 + (len(context) - 1) // 4
        length = int(np.prod(self.shape))
        places = np.arange(known * 256, self.tokens.size).reshape(-1, length)
        for index, block in enumerate(places):
            if self.stop is not None and self.stop.is_set():
                return
            if self.pipeline.fault_at == index:
                raise self.pipeline.fault
            step_begun = time.perf_counter()
            time.sleep(0 if self.is_beside else self.pipeline.step_s)
            tokens = self.rng.integers(0, 4375, length)
            self.tokens.flat[block] = tokens
            shown = self.frames[:] if index == 0 else []
            if (block[-1] + 1) % 256 == 0:
                new = self._paint(1 if block[-1] < 256 else 4)
                self.frames.append(new)
                shown.append(new)
            self.seconds.append(time.perf_counter() - step_begun)
            yield BlockStep(
                index=index,
                num_steps=len(places),
                phase="prefill" if index == 0 else "block",
                tokens=tokens,
                places=block,
                elapsed=time.perf_counter() - begun,
                step_s=self.seconds[-1],
                cache_length=int(block[-1]),
                cache_bytes=int(block[-1]) * 6144,
                new_frames=np.concatenate(shown) if shown else None,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing is held that would have to be closed."""

    @property
    def is_ready(self) -> bool:
        return self.pipeline.ready.is_set()

    def wait_until_ready(self) -> None:
        assert self.pipeline.ready.wait(60)

    def _paint(self, count: int) -> Frames:
        colours = self.rng.integers(0, 255, (count, 8, 8, 3), np.uint8)
        return colours.repeat(16, axis=1).repeat(16, axis=2)

    def generation(self, sample: int = 0) -> Generation:
        if sample:
            other = self.others[sample - 1]
            for _ in zip(range(len(self.seconds) - len(other.seconds)), other, strict=False):
                continue
            return other.generation()
        empty = np.zeros((0, 128, 128, 3), np.uint8)
        frames = np.concatenate([empty, *self.frames])
        return Generation(
            frames_THWC=frames,
            tokens_thw=self.tokens,
            steps=len(self.seconds),
            timings=Timings(
                tokenize_s=0.0,
                prefill_s=sum(self.seconds[:1]),
                decode_s=sum(self.seconds[1:]),
                detokenize_s=0.0,
                per_step_s=self.seconds,
            ),
            manifest={
                "format": 1,
                "generated": True,
                "software": "NBP Studio",
                "model": self.pipeline.name,
                "sha256": self.pipeline.identity["sha256"],
                **self.request.settings(self.shape),
            },
            is_complete=len(frames) == self.num_frames,
        )


ARM_KEYS = ("stay", "left", "right", "away", "near", "up", "down")
PLAY_KEYS: dict[World, tuple[str, ...]] = {
    "arm": (*ARM_KEYS, *(f"{key}+grip" for key in ARM_KEYS)),
    "camera": ("still", "pan-left", "pan-right", "pan-up", "pan-down", "zoom-in", "zoom-out"),
}
HUES = {key: 10 + 15 * i for keys in PLAY_KEYS.values() for i, key in enumerate(keys)}


class FakePlay:
    """Every key has a red of its own; green counts the latent frames, blue is the block's size."""

    def __init__(
        self, pipeline: FakePipeline, first_HWC: Frames, world: World, sampling: SamplingConfig
    ) -> None:
        self.pipeline = pipeline
        self.first_frame_HWC = first_HWC
        self.world: World = world
        self.keys = PLAY_KEYS[world]
        self.sampling = self.first_sampling = sampling.guided(pipeline.key_guidance)
        self.pressed: list[str] = []
        self.reach = Reach(pipeline.key_reach)
        self.changes: list[SamplingChange] = []
        self.is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.is_closed = True

    def change(self, sampling: SamplingConfig) -> None:
        if sampling.block_shape not in self.pipeline.block_shapes:
            raise ValueError("this block is not offered")
        sampling = self.sampling = sampling.guided(self.pipeline.key_guidance)
        self.changes.append(SamplingChange(key=len(self.pressed), sampling=sampling))

    def check(self, *keys: str) -> None:
        for key in keys:
            if key not in self.keys:
                raise ValueError(f"unknown key {key!r}; there are {', '.join(self.keys)}")

    def step(self, key: str, has_reach: bool = True) -> PlayStep:
        self.check(key)
        key = self.reach.follow(key) if has_reach else key
        shape = self.sampling.block_shape or (1, 1, 16)
        steps = 256 // int(np.prod(shape))
        time.sleep(self.pipeline.step_s * steps / 16)
        colour = (HUES[key], (len(self.pressed) + 1) % 256, min(255, steps))
        self.pressed.append(key)
        frames_THWC = np.broadcast_to(np.array(colour, np.uint8), (4, 128, 128, 3)).copy()
        return PlayStep(
            key=key,
            frames_THWC=frames_THWC,
            tokens_hw=np.zeros(GRID[1:], np.int64),
            sample_s=self.pipeline.step_s * steps / 16,
            decode_s=0.0,
            num_steps=steps,
        )

    def follow(self, key: str, change: SamplingConfig | None) -> PlayStep:
        if change is not None:
            self.change(change)
        return self.step(key, has_reach=False)

    def replay(self, recording: PlayRecording) -> Iterator[PlayStep]:
        for key, change in recording.script:
            yield self.follow(key, change)

    def recording(self, start: str = "") -> PlayRecording:
        if not self.pressed:
            raise ValueError("no key was pressed yet, so there is nothing to record")
        return PlayRecording(
            world=self.world,
            keys=" ".join(self.pressed),
            sampling=self.first_sampling,
            changes=tuple(self.changes),
            first_frame=((0,) * 16,) * 16,
            start=start,
            fingerprint=self.pipeline.fingerprint,
        )


class FakePipeline:
    """The calls of VideoPipeline that the app uses."""

    actions: tuple[str, ...] = ACTIONS
    timeline_names: tuple[str, ...] = ACTIONS
    device = "cpu"
    num_parameters = 1_234_567
    tokenizer_name = "fake-tokens"
    tokens = TOKENIZER_PRESETS["nano"]
    codebook_size = 4375
    grid = GRID
    block_shapes = FIGURE6_SHAPES
    worlds: tuple[World, ...] = ("arm", "camera")
    needs_action = False
    window = 4
    key_guidance = 2.0
    key_reach: tuple[KeyAxis, ...] = ()
    levels = (7, 5, 5, 5, 5)

    def __init__(self, name: str = "fake", step_s: float = 0.01) -> None:
        self.name = name
        self.identity = {"sha256": "f" * 64}
        self.step_s = step_s
        self.ready = threading.Event()
        self.ready.set()
        self.fault_at: int | None = None
        self.fault: Exception = RuntimeError("the engine broke in /secret/folder")
        self.plays: list[FakePlay] = []
        self.batches: list[int] = []
        """Number of clips of each run."""

    @property
    def fingerprint(self) -> Fingerprint:
        return fingerprint_of(self.name, self.identity, self.device)

    def play(self, first_frame: Frames | None, world: World, sampling: SamplingConfig) -> FakePlay:
        if world not in self.worlds:
            raise ValueError(f"model {self.name!r} has no keys for the {world} world")
        black_HWC = np.zeros((128, 128, 3), np.uint8)
        play = FakePlay(self, black_HWC if first_frame is None else first_frame, world, sampling)
        self.plays.append(play)
        return play

    def play_recording(self, recording: PlayRecording) -> FakePlay:
        return self.play(None, recording.world, recording.sampling)

    def num_steps(
        self, block_shape: Size3, num_context_frames: int = 0, num_frames: int = CLIP_FRAMES
    ) -> int:
        latents = (num_frames - 1) // 4 - (num_context_frames - 1) // 4
        return latents * 256 // int(np.prod(block_shape))

    def token_odds(
        self,
        tokens_thw: npt.NDArray[np.int64],
        action: str | None = None,
        sampling: SamplingConfig | None = None,
    ) -> TokenOdds:
        """A clip's own token with a half, and its four successors with less."""
        shares = np.array([0.5, 0.2, 0.1, 0.05, 0.01], np.float32)
        return TokenOdds(
            probability_thw=np.full(tokens_thw.shape, 0.5, np.float32),
            likeliest_thwK=(tokens_thw[..., None] + np.arange(5)) % self.codebook_size,
            likeliest_probability_thwK=np.broadcast_to(shares, (*tokens_thw.shape, 5)),
        )

    def reconstruct(self, frames_THWC: Frames) -> Reconstruction:
        """Half as bright; the token of a place is its number."""
        original_THWC = crop_resize(frames_THWC)
        darker_THWC = (original_THWC // 2).astype(np.uint8)
        latents = 1 + (len(frames_THWC) - 1) // 4
        return Reconstruction(
            original_THWC=original_THWC,
            frames_THWC=darker_THWC,
            tokens_thw=np.arange(latents * 256, dtype=np.int64).reshape(-1, 16, 16) % 256,
            codebook_size=4096,
            fidelity=fidelity(original_THWC, darker_THWC),
            encode_s=0.25,
            decode_s=0.5,
        )

    def start(self, *requests: GenerateRequest, stop: threading.Event | None = None) -> FakeRun:
        first, *others = (FakeRun(self, request, stop) for request in requests)
        first.others = others
        for other in others:
            other.is_beside = True
        self.batches.append(len(requests))
        return first

    def stream(
        self,
        action: str | None = None,
        frames_THWC: Frames | None = None,
        num_frames: int = CLIP_FRAMES,
        sampling: SamplingConfig | None = None,
        stop: threading.Event | None = None,
    ) -> FakeRun:
        request = GenerateRequest(
            action=action,
            frames_THWC=frames_THWC,
            num_frames=num_frames,
            sampling=sampling or SamplingConfig(),
        )
        return FakeRun(self, request, stop)


class Continues(FakePipeline):
    """A model without actions: it can only go on from frames."""

    actions = ()
    timeline_names = ()
    worlds = ()

    def num_steps(
        self, block_shape: Size3, num_context_frames: int = 0, num_frames: int = CLIP_FRAMES
    ) -> int:
        if num_context_frames == 0:
            raise ValueError(f"model {self.name!r} has no actions: give it first frames")
        return super().num_steps(block_shape, num_context_frames, num_frames)


@contextmanager
def small_clips() -> Iterator[None]:
    """Clips are written at 128 px instead of 512, where their size is not what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("app.clips.exports.RESULT_SCALE", 1)
        yield


def answer_of(call: Iterator[Any]) -> Any:
    """What a call of the API comes to: its last answer, as a client takes it."""
    return deque(call, maxlen=1)[0]


def add_model(models: Path, name: str, size: int = 10) -> None:
    folder = models / name
    folder.mkdir(parents=True)
    config = elastic(name, 1, HEAD_WIDTH, 100, ACTIONS).to_dict()
    description = {"format": 1, "kind": "transformer", "config": config}
    (folder / "config.json").write_text(json.dumps(description))
    (folder / "model.safetensors").write_bytes(b"0" * size)


def fake_session(
    models: Path, step_s: float = 0.01, **options: Any
) -> tuple[Session, FakePipeline]:
    """A session whose every model is the one pipeline that is returned beside it."""
    if not models.exists():
        add_model(models, "fake")
    pipeline = FakePipeline(step_s=step_s)
    fake = cast(VideoPipeline, pipeline)
    session = Session(models, "cpu", load=lambda _: fake, describe=lambda _: fake, **options)
    return session, pipeline


def session_of(models: Path, **pipelines: FakePipeline) -> Session:
    """A session with a model of each name."""
    for name in pipelines:
        add_model(models, name)
    by_name = cast(dict[str, VideoPipeline], pipelines)
    return Session(models, "cpu", load=by_name.__getitem__, describe=by_name.__getitem__)
