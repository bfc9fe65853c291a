"""The gallery of kept clips: open one, use its settings, pin it, delete it."""

from __future__ import annotations

from html import escape
from typing import Any, Final

import gradio as gr

from app.clips.kept import is_whole
from app.library import FILM, KeptClip
from app.parts.made import action_words
from app.parts.pictures import block_name, jpeg_file_uri
from app.parts.sources import component_script, template
from app.session import Session
from nbp_core.config.shapes import parse_block_shape

FEW: Final = 12
"""Number of cards that are shown before "Show all"."""
MANY: Final = 200
_STARTS: Final = {0: "from an action", 1: "from a picture"}


class PastClips:
    """Builds the gallery, and says what has to change on it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.limit: gr.State = gr.State(FEW)
        with gr.Column(visible=False, elem_id="past") as self.box:
            self.gallery = gr.HTML(
                {}, html_template=template(__file__, "gallery.html"),
                js_on_load=component_script(__file__, "gallery.js"),
                elem_id="gallery", label="Your clips",
            )  # fmt: skip
            self.disk = gr.HTML(elem_id="disk", label="Space on disk", elem_classes="quiet")
        self.parts = [self.box, self.gallery, self.disk]

    def updates(self, opened: str | None = None, limit: int = FEW) -> dict[Any, Any]:
        """The gallery as it should be now: pinned clips first, then the newest.

        opened: id of the clip that the page shows; its card is among those shown.
        """
        clips = self.session.library.clips()
        shown = next((i + 1 for i, clip in enumerate(clips) if clip.id == opened), 0)
        limit = max(limit, min(shown, MANY))
        return {
            self.box: gr.Column(visible=bool(clips)),
            self.gallery: {
                "cards": [card(clip) for clip in clips[:limit]],
                "hidden": max(0, min(MANY, len(clips)) - limit),
                "opened": opened,
            },
            self.disk: disk_line(self.session, len(clips)),
        }


def card(clip: KeptClip) -> dict[str, Any]:
    """The card of a clip in the gallery."""
    return {
        "id": clip.id,
        "film": jpeg_file_uri(clip.folder / FILM),
        "fault": "" if is_whole(clip) else "Some files of this clip were deleted.",
        "title": action_words(clip.manifest),
        "details": details(clip),
        "pinned": clip.is_pinned,
    }


def details(clip: KeptClip) -> list[str]:
    """Two lines that tell clips of one title apart."""
    manifest = clip.manifest
    shape = manifest["block_shape"]
    count = (manifest.get("context") or {"num_frames": 0})["num_frames"]
    start = _STARTS.get(count, f"from {count} frames of a clip")
    stopped = "" if clip.is_complete else ", stopped"
    temperature = manifest["sampling"]["temperature"]
    return [
        f"{clip.model}, {block_name(parse_block_shape(shape))} {shape}, {clip.num_frames} frames"
        f"{stopped}",
        f"{start}, seed {manifest['sampling']['seed']}, temperature {temperature:g},"
        f" {clip.made:%d %b %H:%M}",
    ]


def disk_line(session: Session, num_clips: int) -> str:
    """Disk space of the clips, their folder, and what happens at the limit, as HTML."""
    library = session.library
    used, most = library.num_bytes() / 1e6, library.max_bytes / 1e6
    clips = "1 clip" if num_clips == 1 else f"{num_clips} clips"
    where = (
        f" Your clips are stored in {escape(str(library.folder))}." if session.keeps_clips else ""
    )
    return (
        f"<p>{clips}, {used:,.1f} of {most:,.0f} MB used. The oldest are deleted beyond"
        f" {most:,.0f} MB; pinned clips are always kept.{where}</p>"
    )
