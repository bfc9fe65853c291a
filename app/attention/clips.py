"""Clips whose attention can be looked at: those made here, the bundled ones, a visitor's own."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from app.clips.form import MIDDLE
from app.clips.kept import find_clip
from app.clips.progress import NO_TOKEN
from app.clips.request import Request
from app.clips.run import Outcome
from app.jobs import JobView
from app.parts.made import clip_line, made_clips
from app.session import SPEED_ONLY
from nbp_core.blocks.steps import sequence_plan
from nbp_core.config.shapes import CLIP_FRAMES, Size3, parse_block_shape
from nbp_core.media.files import Frames
from nbp_core.media.video import crop_resize, read_comment, read_context

if TYPE_CHECKING:
    from app.session import Session
    from nbp_core.generation.offer import ModelOffer
    from nbp_core.generation.records import Tokens

UPLOAD = "upload"
_MADE, _BUNDLED = "made:", "bundled:"


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A clip, what is known of how it was made, and the model to look with."""

    key: str
    title: str
    model: str
    action: str | None
    block_shape: Size3 | None
    """The blocks it was made in; None when it was not generated, or nobody knows how."""
    tokens_thw: Tokens | None
    """Tokens that the model generated; None if the frames still have to be tokenized."""
    frames_THWC: Frames


def choices(session: Session, opened: str | None) -> list[tuple[str, str]]:
    """(title, key): the clip that Generate shows, the kept ones, and the bundled.

    opened: the id of the job that Generate shows.
    """
    made = [(clip.title, f"{_MADE}{clip.id}") for clip in made_clips(session, opened)]
    return made + [
        (f"{path.stem}, bundled clip", f"{_BUNDLED}{path.name}") for path in _bundled(session)
    ]


def first(session: Session, opened: str | None) -> str:
    """The key of the clip that is opened by itself: the one on Generate, or a bundled one.

    Clips of an untrained model are noise, so they are opened only when they are chosen.
    """
    for clip in made_clips(session, opened):
        if clip.id == opened and clip.model not in SPEED_ONLY:
            return f"{_MADE}{clip.id}"
    return next((f"{_BUNDLED}{path.name}" for path in _bundled(session)), "")


def shown_with(key: str, model: str | None) -> tuple[str, str]:
    """The key of an opened clip; a clip made here is read by the model that made it."""
    return key, "" if key.startswith(_MADE) else model or ""


def find(
    session: Session, key: str | None, model: str | None, upload: str | None, crop: float = MIDDLE
) -> Clip:
    """The clip of a key. One that was made here is looked at with the model that made it.

    crop: which square of an upload, from 0 (left or top) to 1. Raises ValueError, one sentence,
    when the clip is gone or cannot be read.
    """
    if key == UPLOAD:
        if upload is None:
            raise ValueError("Choose a clip of your own first, or one of the list.")
        return from_file(session, Path(upload), model, title="your clip", crop=crop)
    if key and key.startswith(_MADE):
        return _made(session, key)
    for path in _bundled(session):
        if key == f"{_BUNDLED}{path.name}":
            return from_file(session, path, model, title=f"{path.stem}, bundled clip")
    raise ValueError("There is no clip yet. Make one or choose a file.")


def from_file(
    session: Session, path: Path, model: str | None, *, title: str, crop: float = MIDDLE
) -> Clip:
    """Any clip, to be tokenized; one of this studio still says what it was made with."""
    offer = session.offer(model)
    settings = _settings(path)
    action = settings.get("action") or path.stem
    return Clip(
        key=f"{path} at {crop}",
        title=title,
        model=model or "",
        action=action if action in offer.actions else None,
        block_shape=_readable_block(settings.get("block_shape"), offer),
        tokens_thw=None,
        frames_THWC=_frames(path, min(max(crop, 0.0), 1.0)),
    )


def _made(session: Session, key: str) -> Clip:
    view = find_clip(session, key.removeprefix(_MADE))
    if view is None or not _is_clip(view):
        raise ValueError("This clip was deleted. Choose another one.")
    request, outcome = view.request, view.result
    tokens_thw = outcome.last.tokens_thw
    whole = int((tokens_thw != NO_TOKEN).all(axis=(1, 2)).cumprod().sum())
    return Clip(
        key=key,
        title=clip_line(outcome.manifest, outcome.is_complete),
        model=request.model,
        action=request.action,
        block_shape=request.sampling.block_shape,
        # A stopped run does not tell the tokens of its context.
        tokens_thw=tokens_thw[:whole] if whole else None,
        frames_THWC=_frames(outcome.clip),
    )


def _is_clip(view: JobView) -> bool:
    return (
        isinstance(view.result, Outcome)
        and isinstance(view.request, Request)
        and view.result.clip.is_file()
    )


def _bundled(session: Session) -> list[Path]:
    return [] if session.assets is None else sorted(session.assets.glob("*.mp4"))


def _readable_block(text: object, offer: ModelOffer) -> Size3 | None:
    """The block shape that a file names; None where a model cannot read a clip in it."""
    try:
        shape = parse_block_shape(str(text))
        sequence_plan(offer.config, shape)
    except ValueError:
        return None
    return shape


@lru_cache(maxsize=8)
def _frames(path: Path, crop: float = MIDDLE) -> Frames:
    # Read once: every click on the page asks for them again.
    return crop_resize(read_context(path, CLIP_FRAMES), at=crop)


@lru_cache(maxsize=8)
def _settings(path: Path) -> dict[str, object]:
    try:
        settings = json.loads(read_comment(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return settings if isinstance(settings, dict) else {}
