"""A play as a clip: its keys are pressed again in the worker, and the frames written to a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.clips.exports import RESULT_SCALE
from app.folders import file_stem
from app.jobs import Job, JobView
from app.parts.status import line, standing
from app.play.player import difference_words
from nbp_core.config.shapes import CLIP_FPS, PLAY_FPS
from nbp_core.generation.segments import CARRY_FRAMES
from nbp_core.media.files import Frames
from nbp_core.media.video import write_video

if TYPE_CHECKING:
    from app.session import Session
    from nbp_core.generation.recording import PlayRecording

GONE = "This clip was deleted. Save the play once more."
MOST_SAVED = 1_200
"""Latent frames of a clip, five minutes: more would not fit into memory."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Saved:
    """The files of a play. Both hold the recording."""

    clip: Path
    recording: Path
    last_frames: Path
    """The last five frames at the pace of generated clips."""
    num_frames: int
    is_complete: bool
    differences: list[str]
    """Why its frames may differ from those that were played, as sentences."""

    @property
    def is_there(self) -> bool:
        """Whether none of its files has made way for newer ones."""
        return all(path.is_file() for path in (self.clip, self.recording, self.last_frames))


def run(session: Session, model: str, recording: PlayRecording, job: Job) -> Saved:
    """Presses the keys again. Raises ValueError for a model that lacks them."""
    with job.lending():
        pipeline = session.pipeline(model)
    differences = difference_words(recording, pipeline)
    total = len(recording.pressed)
    with pipeline.play_recording(recording) as play:
        pieces = [play.first_frame_HWC[None]]
        for done, step in enumerate(play.replay(recording), 1):
            pieces.append(step.frames_THWC)
            text = f"Making the clip from the recorded keys: {done} of {total}."
            job.report((done / total, text))
            if done == MOST_SAVED or not job.wait_turn():
                break
        made = play.recording(recording.shown_start)
    frames_THWC = np.concatenate(pieces)
    is_complete = len(made.pressed) == total
    return session.write_output(
        job.id, lambda folder: _written(folder, model, made, frames_THWC, is_complete, differences)
    )


def _written(
    folder: Path,
    model: str,
    made: PlayRecording,
    frames_THWC: Frames,
    is_complete: bool,
    differences: list[str],
) -> Saved:
    stem = f"play_{file_stem(made.start or made.world)}_{file_stem(model)}"
    clip, file = folder / f"{stem}.mp4", folder / f"{stem}.json"
    write_video(clip, frames_THWC, PLAY_FPS, RESULT_SCALE, comment=made.comment())
    made.write(file)
    last_frames = folder / f"{stem}-last{CARRY_FRAMES}.mp4"
    write_video(last_frames, frames_THWC[-CARRY_FRAMES:], CLIP_FPS, RESULT_SCALE)
    return Saved(
        clip=clip,
        recording=file,
        last_frames=last_frames,
        num_frames=len(frames_THWC),
        is_complete=is_complete,
        differences=differences,
    )


def status(view: JobView) -> str:
    """One line on where the clip stands, as HTML."""
    _, text, kind = standing(view, _done, loading="Making the clip...")
    return line(text, kind)


def _done(saved: Saved) -> str:
    if not saved.is_there:
        return GONE
    cut = "" if saved.is_complete else f", the first {saved.num_frames / PLAY_FPS:.1f} s"
    ready = (
        f"The clip is ready: {saved.num_frames} frames{cut}. Its recording is inside. Drop"
        " the file here to replay it, or choose it as a clip on Attention."
    )
    return " ".join([ready, *saved.differences])
