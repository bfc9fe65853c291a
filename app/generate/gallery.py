"""The gallery of clips made since the studio was started, and what they take on disk."""

from __future__ import annotations

from typing import Any

import gradio as gr

from app.clips.run import Outcome
from app.jobs import JobView
from app.parts.pictures import block_name
from app.parts.thumbs import thumb, thumbs
from app.session import Session
from nbp_core.config.shapes import parse_block_shape


class PastClips:
    """Builds the gallery, and says what has to change on it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.ids: gr.State = gr.State([])
        """Of the jobs whose clips the gallery shows, in its order."""
        with gr.Column(visible=False, elem_id="past") as self.box:
            self.gallery = thumbs("Your clips. Click one to open it.", [], "gallery")
            self.disk = gr.HTML(elem_id="disk", label="Space on disk", elem_classes="quiet")
        self.parts = [self.ids, self.box, self.gallery, self.disk]

    def updates(self) -> dict[Any, Any]:
        """The gallery as it should be now: the newest clip first, none whose file has gone."""
        views = past_clips(self.session)
        return {
            self.ids: [view.id for view in views],
            self.box: gr.Column(visible=bool(views)),
            self.gallery: [thumb(view.result.last_frame, caption(view.result)) for view in views],
            self.disk: disk_line(self.session, len(views)),
        }


def past_clips(session: Session) -> list[JobView]:
    """The finished runs of Generate whose clips are still there, the newest first."""
    return [
        view
        for view in session.jobs.finished()
        if isinstance(view.result, Outcome) and view.result.last_frame.is_file()
    ]


def caption(outcome: Outcome) -> str:
    """'door open, row 1x1x16, seed 42, 17 frames'."""
    manifest = outcome.manifest
    action = (manifest["action"] or "no action").replace("-", " ")
    block = manifest["block_shape"]
    name = block_name(parse_block_shape(block))
    seed = manifest["sampling"]["seed"]
    return f"{action}, {name} {block}, seed {seed}, {outcome.num_frames} frames"


def disk_line(session: Session, num_clips: int) -> str:
    """What the clips and uploads take on disk, and what happens when it is too much, as HTML."""
    used, most = session.disk_use() / 1e6, session.max_bytes / 1e6
    clips = "1 clip" if num_clips == 1 else f"{num_clips} clips"
    return (
        f"<p>{clips}; with uploads {used:,.1f} MB of at most {most:,.0f} MB on disk. Beyond that,"
        f" and beyond {session.max_clips} clips, the oldest go; all go when the studio ends.</p>"
    )
