"""Whether a model obeys keys: what readers see in real, reconstructed and generated episodes.

A reader of the arm's keys is a network (an ActionClassifier of three frames, trained on real and on
reconstructed ones). How a camera was panned is measured as a shift of the picture. Both are also
applied to real episodes and to their reconstructions, which bound what generated ones can reach.
Shapes: T H W frames, C colour, N latent frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from nbp_core.config.sampling import SamplingConfig
from nbp_core.data.camera_moves import pan_direction
from nbp_core.data.key_frames import direction, latent_frames, reconstructed
from nbp_core.data.keys import FRAMES_PER_KEY, KeyClip
from nbp_core.evaluation.classifier import ActionClassifier
from nbp_core.evaluation.figures import Figure
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.play import PlayStep
from nbp_core.generation.recording import World
from nbp_core.media.fidelity import psnr
from nbp_core.media.files import Frames

REAL, RECONSTRUCTED, GENERATED = "real episodes", "reconstructed episodes", "generated episodes"
PSNR_AFTER = (1, 2, 4, 8, 16)
"""Latent frames after which generated frames are compared to the simulator's."""
LEAST_SHIFT = 2.0
"""Pixels per latent frame that count as a pan; its key asks for eight."""

Progress = Callable[[int], object]


@dataclass(frozen=True, kw_only=True)
class Episodes:
    """The same episodes as they are, as the tokenizer makes them, and as the model does."""

    real: list[KeyClip]
    reconstructed: list[KeyClip]
    generated: list[KeyClip]

    @property
    def groups(self) -> tuple[tuple[str, list[KeyClip]], ...]:
        """Name and episodes of each origin."""
        return (
            (REAL, self.real),
            (RECONSTRUCTED, self.reconstructed),
            (GENERATED, self.generated),
        )


def play_episodes(
    pipeline: VideoPipeline,
    clips: Iterable[KeyClip],
    world: World,
    sampling: SamplingConfig,
    on_episode: Progress | None = None,
) -> Episodes:
    """Plays the keys of episodes from their first frames. Episode i has the seed of `sampling` + i.

    Raises ValueError for keys that the model does not know.
    """
    real = []
    made: list[KeyClip] = []
    generated: list[KeyClip] = []
    for number, clip in enumerate(clips):
        real.append(clip)
        frames_THWC = reconstructed(pipeline.tokenizer, clip.frames_THWC, pipeline.device)
        made.append(replace(clip, frames_THWC=frames_THWC))
        seeded = replace(sampling, seed=sampling.seed + number)
        generated.append(played(pipeline, clip, world, seeded)[0])
        if on_episode is not None:
            on_episode(1)
    return Episodes(real=real, reconstructed=made, generated=generated)


def played(
    pipeline: VideoPipeline, clip: KeyClip, world: World, sampling: SamplingConfig
) -> tuple[KeyClip, list[PlayStep]]:
    """The episode that a model makes of a clip's first frame and keys, and its steps."""
    with pipeline.play(clip.frames_THWC[0], world, sampling) as play:
        steps = [play.step(key) for key in clip.keys]
        first_THWC = play.first_frame_HWC[None]
    frames_THWC = np.concatenate([first_THWC, *(step.frames_THWC for step in steps)])
    return replace(clip, frames_THWC=frames_THWC), steps


def arm_figures(reader: ActionClassifier, episodes: Episodes) -> list[Figure]:
    """Share of keys read right, of all episodes and by look, and PSNR against the simulator."""
    figures: list[Figure] = []
    for name, clips in episodes.groups:
        looks = sorted({clip.look for clip in clips})
        for look in ("", *(looks if len(looks) > 1 else ())):
            chosen = [clip for clip in clips if look in ("", clip.look)]
            found = np.concatenate([keys_read(reader, clip) for clip in chosen])
            figures.append(
                Figure(
                    metric="arm keys read right",
                    of=f"{name}, {look} look" if look else name,
                    value=float(found.mean()),
                    clips=len(chosen),
                    against=f"reader {reader.config.name}, {found.size} latent frames",
                    better="higher",
                )
            )
    return figures + _psnr_figures(episodes)


def keys_read(reader: ActionClassifier, clip: KeyClip) -> NDArray[np.bool_]:
    """For each latent frame of an episode, whether the reader names its key."""
    named = reader.classify(latent_frames(clip.frames_THWC))
    return np.asarray(named == reader.indices([direction(key) for key in clip.keys]))


def _psnr_figures(episodes: Episodes) -> list[Figure]:
    """PSNR to the simulator in the four frames of some latent frames: means over the episodes."""
    held = [
        replace(clip, frames_THWC=np.repeat(clip.frames_THWC[:1], len(clip.frames_THWC), 0))
        for clip in episodes.real
    ]
    groups = (*episodes.groups[1:], ("first frames held still", held))
    return [
        Figure(
            metric=f"PSNR after {count} latent frames",
            of=name,
            value=float(np.mean([row[count - 1] for row in rows])),
            clips=len(rows),
            against="the simulator's frames",
            unit="dB",
            better="higher",
        )
        for name, clips in groups
        for rows in [[psnr_over_time(a, b) for a, b in zip(episodes.real, clips, strict=True)]]
        for count in PSNR_AFTER
        if count <= min(len(row) for row in rows)
    ]


def psnr_over_time(real: KeyClip, other: KeyClip) -> list[float]:
    """PSNR in dB over the four frames of each latent frame after the first."""
    return [
        psnr(real.frames_THWC[start : start + FRAMES_PER_KEY],
             other.frames_THWC[start : start + FRAMES_PER_KEY])
        for start in range(1, len(real.frames_THWC), FRAMES_PER_KEY)
    ]  # fmt: skip


def camera_figures(episodes: Episodes) -> list[Figure]:
    """Share of pan keys under which the picture goes the key's way, and how far it goes."""
    figures = []
    for name, clips in episodes.groups:
        shifts = np.concatenate([pan_shifts(clip) for clip in clips])
        if not shifts.size:
            continue
        count, against = len(clips), f"{shifts.size} pan keys"
        figures += [
            Figure(
                metric="pan keys obeyed", of=name, value=float((shifts > LEAST_SHIFT).mean()),
                clips=count, against=against, better="higher",
            ),
            Figure(
                metric="shift of a pan key, median", of=name, value=float(np.median(shifts)),
                clips=count, against=against, unit="pixels", better="like real",
            ),
        ]  # fmt: skip
    return figures


def pan_shifts(clip: KeyClip) -> NDArray[np.float64]:
    """Pixels that the picture goes the key's way, for each latent frame with a pan key."""
    shifts = []
    for number, key in enumerate(clip.keys):
        kind, _, way = key.partition("-")
        if kind == "pan":
            start = number * FRAMES_PER_KEY
            before, after = clip.frames_THWC[start], clip.frames_THWC[start + FRAMES_PER_KEY]
            # The picture goes against the camera.
            shifts.append(-float(np.dot(_shift(before, after), pan_direction(way))))
    return np.array(shifts)


def _shift(before_HWC: Frames, after_HWC: Frames) -> tuple[float, float]:
    """(right, down) in pixels by which a picture has moved, by phase correlation."""
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY).astype(np.float32) for f in (before_HWC, after_HWC)]
    window = cv2.createHanningWindow((grey[0].shape[1], grey[0].shape[0]), cv2.CV_32F)
    (right, down), _ = cv2.phaseCorrelate(grey[0], grey[1], window)
    return right, down
