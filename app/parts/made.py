"""The clips that were made here, as the menus of all tabs list them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.clips.request import Request
from app.clips.run import Outcome
from app.parts.pictures import block_name
from app.session import Session
from nbp_core.config.shapes import parse_block_shape


@dataclass(frozen=True, kw_only=True, slots=True)
class MadeClip:
    """A clip in a menu."""

    id: str
    """The id of the job that made it."""
    title: str
    model: str


def made_clips(session: Session, opened: str | None) -> list[MadeClip]:
    """The clip that Generate shows, then the kept ones in the order of the gallery.

    opened: the id of the job that Generate shows.
    """
    found: dict[str, MadeClip] = {}
    kept = session.library.clips()
    view = session.jobs.view(opened)
    if view is not None and isinstance(view.result, Outcome) and isinstance(view.request, Request):
        outcome = view.result
        if outcome.strip.is_file() or any(clip.id == view.id for clip in kept):
            title = f"{clip_line(outcome.manifest, outcome.is_complete)}, the clip on Generate"
            found[view.id] = MadeClip(id=view.id, title=title, model=view.request.model)
    for clip in kept:
        title = f"{clip_line(clip.manifest, clip.is_complete)}, {clip.made:%d %b %H:%M}"
        found.setdefault(clip.id, MadeClip(id=clip.id, title=title, model=clip.model))
    return list(found.values())


def clip_line(manifest: dict[str, Any], is_complete: bool) -> str:
    """'door open, row 1x1x16, seed 3, small', by a clip's manifest."""
    shape = manifest["block_shape"]
    block = f"{block_name(parse_block_shape(shape))} {shape}"
    seed = manifest["sampling"]["seed"]
    stopped = "" if is_complete else ", stopped"
    return f"{action_words(manifest)}, {block}, seed {seed}, {manifest['model']}{stopped}"


def action_words(manifest: dict[str, Any]) -> str:
    """'door open', or the list of a clip of several actions as it is written."""
    action = str(manifest["action"] or "no action").replace("-", " ")
    return str(manifest.get("actions") or action)
