"""The files of a finished run. Each says in itself that it is generated, by which model and how."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from app.clips.progress import Making
from nbp_core.config.shapes import CLIP_FPS, parse_block_shape
from nbp_core.generation.segments import CARRY_FRAMES
from nbp_core.media.files import replacing
from nbp_core.media.video import write_gif, write_strip, write_video

if TYPE_CHECKING:
    from nbp_core.generation.records import Generation

RESULT_SCALE = 4
GIF_SCALE = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Files:
    """Where everything lies that a run leaves."""

    clip: Path
    gif: Path
    strip: Path
    """All frames side by side, pixel by pixel."""
    tokens: Path
    settings: Path
    last_frame: Path
    last_frames: Path | None
    """The last five frames, as a clip to continue from; None for a shorter clip."""


def write_files(folder: Path, stem: str, generation: Generation, making: Making) -> Files:
    """Writes a generation in every form, with names that begin with `stem`."""
    frames_THWC = generation.frames_THWC
    settings = json.dumps(generation.manifest, indent=2)
    has_five = len(frames_THWC) >= CARRY_FRAMES
    files = Files(
        clip=folder / f"{stem}.mp4",
        gif=folder / f"{stem}.gif",
        strip=folder / f"{stem}-frames.png",
        tokens=folder / f"{stem}-tokens.npz",
        settings=folder / f"{stem}.json",
        last_frame=folder / f"{stem}-last.png",
        last_frames=folder / f"{stem}-last{CARRY_FRAMES}.mp4" if has_five else None,
    )
    write_video(files.clip, frames_THWC, CLIP_FPS, RESULT_SCALE, comment=settings)
    write_gif(files.gif, frames_THWC, CLIP_FPS, GIF_SCALE, comment=settings)
    write_strip(files.strip, frames_THWC, comment=settings)
    write_strip(files.last_frame, frames_THWC[-1:], comment=settings)
    if files.last_frames:
        last_THWC = frames_THWC[-CARRY_FRAMES:]
        write_video(files.last_frames, last_THWC, CLIP_FPS, RESULT_SCALE, comment=settings)
    write_tokens(files.tokens, generation, making, settings)
    files.settings.write_text(settings + "\n")
    return files


def write_tokens(path: Path, generation: Generation, making: Making, settings: str) -> None:
    """The token grid as numpy's .npz: tokens_thw, block_shape, generated, model, settings.

    And when every part was there: step_thw, step_s, frame_s, as in Making.
    """
    manifest = generation.manifest
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            tokens_thw=generation.tokens_thw,
            block_shape=np.array(parse_block_shape(manifest["block_shape"])),
            generated=np.array(True),
            model=np.array(manifest["model"]),
            settings=np.array(settings),
            step_thw=making.step_thw,
            step_s=np.array(making.step_s),
            frame_s=np.array(making.frame_s),
            codebook_size=np.array(making.codebook_size),
        )
