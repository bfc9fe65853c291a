"""What the user asks for: the page's values, checked, with the uploaded files read."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app import folders
from app.clips.form import LENGTHS, MIDDLE, Start, read_form
from app.clips.words import plural
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import Size3, format_block_shape, parse_block_shape
from nbp_core.config.timeline import format_timeline, parse_timeline
from nbp_core.data.keys import FRAMES_PER_KEY
from nbp_core.generation.request import GenerateRequest
from nbp_core.media.files import Frames
from nbp_core.media.pictures import read_image
from nbp_core.media.video import crop_resize, read_context

CONTEXT_FRAMES: dict[Start, int] = {"action": 0, "frame": 1, "clip": 5}
_STARTS: dict[int, Start] = {count: start for start, count in CONTEXT_FRAMES.items()}
MAX_ACTIONS = 64
"""Latent frames of four frames that a list of actions may last."""
MAX_STEM = 60
"""Letters of a file's name that say what happens in a clip of several actions."""
MAX_SEED = 2**31 - 1
"""Largest seed that is drawn at random. Larger ones can be entered."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Request(GenerateRequest):
    """A clip to be made, with all its settings; its files have been read and checked."""

    model: str
    start: Start = "action"
    """What the known frames are. A request that is read back from the gallery has lost the frames
    themselves."""
    source: str | None = None
    """The file that the known frames were read from."""
    crop: float = MIDDLE
    """Where in that file's longer side the square lies, from 0 to 1."""

    def can_join(self, other: GenerateRequest) -> bool:
        """Whether both clips can be made in one batch of one model."""
        is_same_model = isinstance(other, Request) and other.model == self.model
        return is_same_model and GenerateRequest.can_join(self, other)

    def settings(self, block_shape: Size3) -> dict[str, Any]:
        """The manifest's entries, with the crop where it is not the middle."""
        settings = GenerateRequest.settings(self, block_shape)
        if settings["context"] is not None and self.crop != MIDDLE:
            settings["context"]["crop"] = self.crop
        return settings


def make_request(**values: Any) -> Request:
    """The values of a Form as a request; files are read.

    Raises ValueError, one sentence, for a file or a setting that cannot be used.
    """
    form = read_form(values)
    sampling = SamplingConfig(
        block_shape=parse_block_shape(form.block),
        temperature=form.temperature,
        top_k=form.top_k,
        top_p=form.top_p,
        guidance_scale=form.guidance,
        seed=random_seed() if form.seed is None else form.seed,
    )
    actions = read_actions(form.actions)
    return Request(
        model=form.model or "",
        start=form.start,
        action=None if actions else form.action or None,
        actions=actions,
        frames_THWC=read_start(form.start, form.picture, form.clip, form.crop),
        num_frames=length_of(form.start, actions) if actions else form.num_frames,
        sampling=sampling,
        source={"action": None, "frame": form.picture, "clip": form.clip}[form.start],
        crop=form.crop,
    )


def request_of(manifest: dict[str, Any], model: str) -> Request:
    """The request that a clip's manifest repeats, without its known frames.

    Raises KeyError, TypeError, ValueError, AttributeError or OverflowError for another manifest.
    """
    context = manifest["context"] or {"num_frames": 0}
    crop = float(context.get("crop", MIDDLE))
    if not 0 <= crop <= 1:
        raise ValueError(f"crop must be from 0 to 1, not {crop}")
    return Request(
        model=model,
        start=_STARTS[context["num_frames"]],
        action=manifest["action"],
        actions=read_actions(manifest.get("actions")),
        num_frames=int(manifest["num_frames"]),
        sampling=SamplingConfig.of_manifest(manifest),
        crop=crop,
    )


def read_actions(text: str | None) -> tuple[str, ...]:
    """'drawer-open*4 drawer-close*8' as one action per latent frame; none for an empty text.

    Raises ValueError for text that is no list of actions, and for a longer clip than may be made.
    """
    if text is None or not text.strip():
        return ()
    actions = parse_timeline(text)
    if len(actions) > MAX_ACTIONS:
        raise ValueError(
            f"Actions may last {MAX_ACTIONS} latent frames in all, not {len(actions):,}."
        )
    return actions


def length_of(start: Start, actions: tuple[str, ...]) -> int:
    """Number of frames of a clip of several actions."""
    return max(1, CONTEXT_FRAMES[start]) + FRAMES_PER_KEY * len(actions)


def shown_length(start: Start, num_frames: int, text: str | None) -> int:
    """Number of frames of a clip by the page's values: a list of actions sets it, once it can be
    read."""
    try:
        actions = read_actions(text)
    except ValueError:  # it is being typed
        return num_frames
    return length_of(start, actions) if actions else num_frames


def values_of(request: Request) -> dict[str, Any]:
    """The values of the Form that made a request."""
    sampling, shape = request.sampling, request.sampling.block_shape
    source = request.source if request.source and Path(request.source).is_file() else None
    return {
        "model": request.model,
        "start": request.start,
        "action": request.action or "",
        "actions": format_timeline(request.actions) if request.actions else "",
        "picture": source if request.start == "frame" else None,
        "clip": source if request.start == "clip" else None,
        "block": format_block_shape(shape) if shape else "",
        # A list of actions sets the length, which need not be one of the choices.
        "num_frames": LENGTHS[0] if request.actions else request.num_frames,
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "guidance": sampling.guidance,
        "seed": sampling.seed,
        "crop": request.crop,
    }


def random_seed() -> int:
    """A seed short enough to be read aloud."""
    return random.randint(0, MAX_SEED)


def read_start(
    start: Start, picture: str | None, clip: str | None, crop: float = MIDDLE
) -> Frames | None:
    """The context frames a run starts from, square and small; None for an action alone.

    Raises ValueError, one sentence, for a file that is missing, not readable or too short.
    """
    if start == "action":
        return None
    if start == "frame":
        if picture is None:
            raise ValueError("Choose a picture for the first frame, or start from an action.")
        return crop_resize(read_image(picture)[None], at=crop)
    if clip is None:
        raise ValueError("Choose a clip to continue, or start from an action.")
    frames_THWC = read_context(clip, CONTEXT_FRAMES["clip"])
    if len(frames_THWC) < CONTEXT_FRAMES["clip"]:
        raise ValueError(
            f"This clip has {plural(len(frames_THWC), 'frame')}; five are needed to continue it."
        )
    return crop_resize(frames_THWC, at=crop)


def file_stem(request: Request) -> str:
    """A name a person can tell apart in a downloads folder."""
    named = request.action or "-".join(dict.fromkeys(request.actions))[:MAX_STEM]
    start = named or {"action": "anything", "frame": "picture", "clip": "clip"}[request.start]
    shape = request.sampling.block_shape
    block = format_block_shape(shape) if shape else "default"
    seed = request.sampling.seed
    return f"{folders.file_stem(start)}_{folders.file_stem(request.model)}_{block}_seed{seed}"
