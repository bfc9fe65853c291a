"""One round trip of the Tokenizer tab: pixels -> tokens -> pixels, the files and the figures.

Knows nothing of Gradio.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from app.clips.form import MIDDLE
from app.clips.run import Outcome
from app.clips.words import device_words, plural
from app.folders import file_stem
from app.jobs import Job, JobView
from nbp_core.config.shapes import CLIP_FPS, CLIP_FRAMES
from nbp_core.media.files import MAX_PIXELS, Frames
from nbp_core.media.pictures import read_image
from nbp_core.media.video import Sampled, crop_resize, read_sampled, write_strip, write_video

if TYPE_CHECKING:
    from app.session import Session
    from nbp_core.generation.pipeline import VideoPipeline
    from nbp_core.generation.reconstruction import Reconstruction
    from nbp_core.media.fidelity import Fidelity

Source = Literal["picture", "clip", "made"]
SHOWN_SIDE = 512
MIDDLE_SQUARE = "the middle square"


@dataclass(frozen=True, kw_only=True, slots=True)
class Material:
    """Frames to send through the tokenizer, and what they are called."""

    model: str
    name: str
    frames_THWC: Frames
    square: str = MIDDLE_SQUARE
    """Which square of the file the frames are."""
    resampled: str = ""
    """How the file's frames became these, as a sentence; empty where they are its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoundTrip:
    """A finished round trip: its files and figures. The strips are lossless, the clips H.264."""

    original_strip: Path
    strip: Path
    original_clip: Path | None
    clip: Path | None
    """None for a picture."""
    tokens: Path
    figures: Path
    tokens_thw: npt.NDArray[np.int64]
    codebook_size: int
    num_codes: int
    bits: float
    ratio: float
    fidelity: Fidelity
    num_frames: int
    note: str
    """Which frames of the input were used, as a sentence."""
    measured: str

    @property
    def is_there(self) -> bool:
        """Whether none of its files has made way for newer ones."""
        clips = (self.original_clip, self.clip)
        files = (self.original_strip, self.strip, self.tokens, self.figures, *filter(None, clips))
        return all(path.is_file() for path in files)


def read_material(
    model: str | None,
    source: Source,
    picture: str | None,
    clip: str | None,
    made: JobView | None,
    crop: float = MIDDLE,
) -> Material:
    """The frames that were chosen, one more than can be used at most.

    crop: which square of a picture or clip, from 0 (left or top) to 1. Raises ValueError, one
    sentence, for a file that is missing or not readable.
    """
    if source == "made":
        frames, name = _made_frames(made)
        return Material(model=model or "", name=name, frames_THWC=frames)
    path = picture if source == "picture" else clip
    if path is None:
        raise ValueError(f"Choose a {source}, or one of the examples.")
    if not 0 <= crop <= 1:
        raise ValueError(f"The crop must be from 0 to 1, not {crop}.")
    sampled = read_any(path)
    return Material(
        model=model or "",
        name=Path(path).name,
        frames_THWC=crop_resize(sampled.frames_THWC, at=crop),
        square=MIDDLE_SQUARE if crop == MIDDLE else f"the square at crop {crop:.2f}",
        resampled=_resampled(sampled),
    )


def read_any(path: str) -> Sampled:
    """A picture or the beginning of a clip."""
    return read_sampled(path, CLIP_FRAMES + 1)


def _resampled(sampled: Sampled) -> str:
    count = len(sampled.frames_THWC)
    if count in (sampled.num_stored, CLIP_FRAMES + 1):
        return ""
    own = f"The file has {sampled.num_stored} frames at {sampled.stored_fps:.4g} frames per second"
    if sampled.is_spread:
        return f"{own}, too few for {CLIP_FPS}: {count} of them are read, evenly spread."
    return f"{own}, which are {count} frames at {CLIP_FPS}."


def _made_frames(made: JobView | None) -> tuple[Frames, str]:
    """From the strip, which is lossless, and not from the clip."""
    outcome = made.result if made is not None else None
    if not isinstance(outcome, Outcome) or not outcome.strip.is_file():
        raise ValueError("Choose a clip that was made here. The Generate tab makes them.")
    return split_strip(outcome.strip)[: CLIP_FRAMES + 1], outcome.clip.name


def split_strip(path: Path) -> Frames:
    """The frames_THWC of square frames that lie side by side in a PNG."""
    strip_HWC = read_image(path, MAX_PIXELS)
    side = strip_HWC.shape[0]
    return np.stack([strip_HWC[:, x : x + side] for x in range(0, strip_HWC.shape[1], side)])


def cut(frames_THWC: Frames, factor: int, resampled: str = "") -> tuple[Frames, str]:
    """(the first 1 + n x factor frames, at most 17; what was used, as a sentence).

    resampled: how the file's frames became these, if they are not its own.
    """
    count = len(frames_THWC)
    used = 1 + (min(count, CLIP_FRAMES) - 1) // factor * factor
    if count == 1:
        return frames_THWC, "One picture, which is one latent frame."
    if count > CLIP_FRAMES:
        note = f"The clip has more than {CLIP_FRAMES} frames. Its first {used} are used."
    elif count > used:
        has = resampled or f"The clip has {count} frames."
        note = f"{has} The first {used} are used, one and then {factor} for each latent frame."
    else:
        note = f"{resampled} All {used} frames are used.".lstrip()
    return frames_THWC[:used], note


def run(session: Session, material: Material, job: Job) -> RoundTrip:
    """Sends the frames through the tokenizer in the worker thread and writes the files."""
    with job.lending():
        pipeline = session.pipeline(material.model)
    factor = pipeline.tokens.time_factor
    frames, note = cut(material.frames_THWC, factor, material.resampled)
    made = pipeline.reconstruct(frames)
    write = partial(_written, pipeline, made, material, note)
    return session.write_output(job.id, write)


def _written(
    pipeline: VideoPipeline, made: Reconstruction, material: Material, note: str, folder: Path
) -> RoundTrip:
    """Writes the files of a round trip into a folder."""
    names = ("original.png", "reconstruction.png", "tokens.npy", "figures.json")
    stem = file_stem(Path(material.name).stem)
    original_strip, strip, tokens, figures = (folder / f"{stem}-{name}" for name in names)
    write_strip(original_strip, made.original_THWC)
    write_strip(strip, made.frames_THWC)
    np.save(tokens, made.tokens_thw, allow_pickle=False)
    report = describe(pipeline, made) | {"source": material.name, "note": note}
    figures.write_text(json.dumps(report, indent=2) + "\n")
    clips: list[Path | None] = [None, None]
    if len(made.frames_THWC) > 1:
        scale = max(1, SHOWN_SIDE // made.original_THWC.shape[1])
        for index, shown in enumerate((made.original_THWC, made.frames_THWC)):
            clips[index] = path = folder / f"{stem}-{('original', 'reconstruction')[index]}.mp4"
            write_video(path, shown, scale=scale)
    return RoundTrip(
        original_strip=original_strip,
        strip=strip,
        original_clip=clips[0],
        clip=clips[1],
        tokens=tokens,
        figures=figures,
        tokens_thw=made.tokens_thw,
        codebook_size=made.codebook_size,
        num_codes=made.num_codes,
        bits=made.bits,
        ratio=made.ratio,
        fidelity=made.fidelity,
        num_frames=len(made.frames_THWC),
        note=note,
        measured=_measured(pipeline, made, f"{material.square} of {material.name}"),
    )


def describe(pipeline: VideoPipeline, made: Reconstruction) -> dict[str, Any]:
    """All figures of a reconstruction, for a file. An infinite PSNR, of equal frames, is None."""
    return {
        "tokenizer": pipeline.tokenizer_name,
        "tokenizer_sha256": pipeline.identity.get("tokenizer_sha256"),
        "frames": len(made.frames_THWC),
        "side": made.frames_THWC.shape[1],
        "tokens": list(made.tokens_thw.shape),
        "codebook_size": made.codebook_size,
        "codes_used": made.num_codes,
        "bits": made.bits,
        "raw_bits": made.raw_bits,
        "ratio": made.ratio,
        "psnr": _finite(made.fidelity.psnr),
        "ssim": made.fidelity.ssim,
        "psnr_per_frame": [_finite(value) for value in made.fidelity.psnr_per_frame],
        "ssim_per_frame": list(made.fidelity.ssim_per_frame),
        "encode_s": made.encode_s,
        "decode_s": made.decode_s,
        "device": device_words(pipeline),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _measured(pipeline: VideoPipeline, made: Reconstruction, what: str) -> str:
    """The line that says what was measured, on what and with which weights."""
    side = made.frames_THWC.shape[1]
    fingerprint = str(pipeline.identity.get("tokenizer_sha256", ""))[:8]
    weights = f" ({fingerprint})" if fingerprint else ""
    return (
        f"Measured here: PSNR and SSIM of {plural(len(made.frames_THWC), 'frame')} of"
        f" {side} x {side} px in 8-bit RGB against {what}, with tokenizer"
        f" {pipeline.tokenizer_name}{weights}; {made.encode_s:.2f} s to tokens and"
        f" {made.decode_s:.2f} s back on {device_words(pipeline)}."
    )
