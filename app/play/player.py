"""One visitor's play: free, along recorded keys beside the simulator, or a replay.

Used by one thread at a time, the players' engine thread. Shapes: T H W frames, C colour.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from app.clips.words import device_words, plural, weights_words
from app.parts.pictures import block_name
from app.play.protocol import Begin, Change, Header, Started
from app.play.starts import Start
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import format_block_shape, parse_block_shape
from nbp_core.data.keys import FRAMES_PER_KEY, KeyClip
from nbp_core.media.drift import sharpness
from nbp_core.media.fidelity import limited_psnr
from nbp_core.media.files import Frames

if TYPE_CHECKING:
    from nbp_core.generation.offer import ModelOffer
    from nbp_core.generation.pipeline import VideoPipeline
    from nbp_core.generation.play import PlayStep
    from nbp_core.generation.recording import PlayRecording


ROWS = "1x1x16"


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A latent frame to be shown."""

    header: Header
    frames_THWC: Frames
    beside_THWC: Frames | None


class Player:
    """A play and what is known of it."""

    def __init__(self, pipeline: VideoPipeline, start: Start, begin: Begin) -> None:
        """Raises ValueError for a model without keys for this world, a block that it lacks or a
        file that cannot be read."""
        self.begin = begin
        self.start = start
        self._pipeline = pipeline
        self._episode: KeyClip | None = start.episode() if begin.beside else None
        self._recording = start.recording
        self._script = [] if start.recording is None else start.recording.script
        sampling = SamplingConfig(
            block_shape=parse_block_shape(begin.block),
            temperature=begin.temperature,
            guidance_scale=begin.guidance,
            seed=begin.seed,
        )
        if self._recording is None:
            self._play = pipeline.play(start.first_frame(), start.world, sampling)
        else:
            self._play = pipeline.play_recording(self._recording)
            self._play.check(*(key for key, _ in self._script))
        self._done = 0
        self._last_HWC = self._play.first_frame_HWC

    def first(self, players: int) -> Shown:
        """The first frame, which is there before any key."""
        first_THWC = self._play.first_frame_HWC[None]
        beside_THWC = None if self._episode is None else self._episode.frames_THWC[:1]
        header = Header(
            number=-1, key="", is_out=False, count=1, sample_ms=0, decode_ms=0, wait_ms=0, steps=0,
            players=players, psnr=_psnr(first_THWC, beside_THWC), still=self._still(beside_THWC),
            sharpness=_sharpness(self._last_HWC),
        )  # fmt: skip
        return Shown(header=header, frames_THWC=first_THWC, beside_THWC=beside_THWC)

    def step(self, number: int, key: str, wait_s: float, players: int) -> Shown:
        """The next latent frame. Raises ValueError for an unknown key and at a recording's end."""
        if self._length is not None and self._done >= self._length:
            raise ValueError("The recording is at its end.")
        key, step = self._next(key)
        begin = 1 + self._done * FRAMES_PER_KEY
        self._done += 1
        self._last_HWC = step.frames_THWC[-1]
        beside_THWC = None
        if self._episode is not None:
            beside_THWC = self._episode.frames_THWC[begin : begin + FRAMES_PER_KEY]
        header = Header(
            number=number,
            key=key,
            is_out=step.key != key,
            count=len(step.frames_THWC),
            sample_ms=round(1000 * step.sample_s, 1),
            decode_ms=round(1000 * step.decode_s, 1),
            wait_ms=round(1000 * wait_s, 1),
            steps=step.num_steps,
            players=players,
            psnr=_psnr(step.frames_THWC, beside_THWC),
            still=self._still(beside_THWC),
            sharpness=_sharpness(self._last_HWC),
        )
        return Shown(header=header, frames_THWC=step.frames_THWC, beside_THWC=beside_THWC)

    def _still(self, beside_THWC: Frames | None) -> tuple[float, ...]:
        if self._episode is None or beside_THWC is None:
            return ()
        first_THWC = self._episode.frames_THWC[:1]
        return _psnr(np.repeat(first_THWC, len(beside_THWC), axis=0), beside_THWC)

    def _next(self, key: str) -> tuple[str, PlayStep]:
        if self._recording is not None:
            # Not by Play.replay, whose iterator is at its end after a fault: this tries again.
            key, change = self._script[self._done]
            return key, self._play.follow(key, change)
        if self._episode is not None:
            key = self._episode.keys[self._done]
        return key, self._play.step(key)

    def change(self, change: Change) -> None:
        """Changes block shape, temperature or guidance from the next latent frame on. Raises
        ValueError for those that the model lacks, and in a replay, which brings its own."""
        if self._recording is not None:
            raise ValueError("A replay keeps the settings that it was recorded with.")
        sampling = now = self._play.sampling
        if change.block is not None:
            sampling = replace(sampling, block_shape=parse_block_shape(change.block))
        if change.temperature is not None:
            sampling = replace(sampling, temperature=change.temperature)
        if change.guidance is not None:
            sampling = replace(sampling, guidance_scale=change.guidance)
        if sampling != now:
            self._play.change(sampling)

    def handed_to(self, model: str) -> tuple[Start, Begin]:
        """(start, settings) from which another model continues, with its own guidance: the last
        frame is its first."""
        now = self.started()
        settings = {
            "model": model, "block": now.block, "temperature": now.temperature, "guidance": None,
        }  # fmt: skip
        begin = self.begin.model_copy(update={**settings, "beside": False})
        return replace(self.start, path=None, own_HWC=self._last_HWC), begin

    def recording(self) -> PlayRecording:
        """Raises ValueError before the first key."""
        replayed = self._recording
        return self._play.recording(self.start.title if replayed is None else replayed.shown_start)

    def close(self) -> None:
        """Frees what it holds."""
        self._play.close()

    @property
    def _length(self) -> int | None:
        if self._recording is not None:
            return len(self._script)
        return None if self._episode is None else len(self._episode.keys)

    def started(self) -> Started:
        """The state of the play for the page."""
        pipeline, sampling = self._pipeline, self._play.sampling
        shape = sampling.block_shape
        recording = self._recording
        differences = [] if recording is None else difference_words(recording, pipeline)
        return Started(
            title=self.start.title,
            world=self.start.world,
            model=self.begin.model,
            keys=self._play.keys,
            block=format_block_shape(shape or pipeline.block_shapes[0]),
            blocks=tuple(block_choices(pipeline)),
            temperature=sampling.temperature,
            guidance=sampling.guidance,
            length=self._length,
            beside=self._episode is not None,
            is_replay=recording is not None,
            window=pipeline.window or 0,
            weights=f"{weights_words(pipeline)}, {device_words(pipeline)}",
            note=" ".join(differences),
        )


def difference_words(recording: PlayRecording, pipeline: VideoPipeline) -> list[str]:
    """Why a model's frames may differ from the recorded ones, as sentences."""
    found = recording.differences(pipeline.fingerprint)
    return [f"{sentence[:1].upper()}{sentence[1:]}." for sentence in found]


def block_for(offer: ModelOffer, wanted: str) -> str:
    """The block of a model that is nearest to what was chosen: that one, else rows, else the one of
    fewest steps."""
    shapes = [shape for _, shape in block_choices(offer)] or [wanted]
    return next((shape for shape in (wanted, ROWS) if shape in shapes), shapes[-1])


def block_choices(offer: ModelOffer) -> list[tuple[str, str]]:
    """(what people read, shape) of the blocks that lie within a latent frame, the largest last."""
    shapes = [shape for shape in offer.block_shapes if shape[0] == 1]
    frame_len = offer.grid[1] * offer.grid[2]
    choices = []
    for shape in sorted(shapes, key=lambda shape: shape[1] * shape[2]):
        steps, text = frame_len // (shape[1] * shape[2]), format_block_shape(shape)
        choices.append((f"{block_name(shape)} {text}: {plural(steps, 'step')} per key", text))
    return choices


def _sharpness(frame_HWC: Frames) -> float:
    return round(sharpness(frame_HWC), 2)


def _psnr(frames_THWC: Frames, beside_THWC: Frames | None) -> tuple[float, ...]:
    if beside_THWC is None:
        return ()
    pairs = zip(frames_THWC, beside_THWC, strict=True)
    return tuple(round(limited_psnr(b, a), 2) for a, b in pairs)
