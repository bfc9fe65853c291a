"""A picture or a clip to start from: where to drop it, which examples to try, what is refused."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import gradio as gr
from gradio.processing_utils import save_bytes_to_cache, save_file_to_cache

from app.clips.form import MIDDLE, Start
from app.clips.request import read_start
from app.folders import file_stem
from app.parts import controls
from app.parts.events import LIGHT, OWN, refusal, refusals, when
from app.parts.pictures import jpeg_uri, png
from app.parts.thumbs import chosen_index, thumb, thumbs
from app.session import Session
from nbp_core.config.shapes import CLIP_FPS
from nbp_core.media.files import MediaError
from nbp_core.media.pictures import browsers_show, read_image
from nbp_core.media.video import read_context

STARTS = [("an action", "action"), ("a first frame", "frame"), ("five frames", "clip")]
FIVE_FRAMES = (
    f"A square of its first half second is used, as five frames at {CLIP_FPS} frames per"
    " second. From a shorter clip, five frames spread evenly over it are used."
)
MAX_UPLOAD = "1gb"
"""Largest upload; what is read of it is bounded by nbp_core.media."""


def start_radio(session: Session, model: str | None, start: Start) -> gr.Radio:
    """The starts that suit a model, and the given one if it does, else another."""
    choices, start = _suited(session, model, start)
    return gr.Radio(choices=choices, value=start)


def refit_start(session: Session, model: str | None, start: Start) -> gr.Radio:
    """The starts of another model; one that does not suit it gives way to one that does."""
    choices, suited = _suited(session, model, start)
    return controls.refitted(gr.Radio, choices, suited, start)


def _suited(
    session: Session, model: str | None, start: Start
) -> tuple[list[tuple[str, str]], Start]:
    offered, suited = controls.suited_starts(session, model, start)
    return [one for one in STARTS if one[1] in offered], suited


_EXAMPLES: dict[Start, tuple[str, ...]] = {
    "frame": (".png", ".jpg", ".jpeg", ".webp"),
    "clip": (".mp4", ".webm", ".mov"),
}


class StartPage(Protocol):
    """A page that offers the three starts."""

    start: gr.Radio
    picture_box: gr.Column
    picture: gr.Image
    clip_box: gr.Column
    clip: gr.Video
    crop: gr.Slider


def hand_over_path(upload: gr.Image | gr.Video | gr.File) -> None:
    """Makes an upload arrive as a path, unopened: the engine refuses bad files, not Gradio."""
    # A subclass would be the usual way, but Gradio writes a stub beside the source of each.
    path_of = lambda payload: payload.path if payload else None  # noqa: E731
    upload.preprocess = path_of  # type: ignore[method-assign]


def picture_upload(session: Session, label: str, elem_id: str, alt_text: str) -> gr.Image:
    """Where a picture is dropped or pasted."""
    upload = gr.Image(
        label=label, sources=["upload", "clipboard"], height=220, elem_id=elem_id, buttons=[],
        alt_text=alt_text,
    )  # fmt: skip
    hand_over_path(upload)
    upload.upload(partial(_for_browsers, session), upload, upload, **OWN)
    return upload


def _for_browsers(session: Session, path: str) -> Any:
    """A PNG of the same pixels in place of a picture whose format browsers do not show."""
    with contextlib.suppress(MediaError):
        if not browsers_show(Path(path)):
            name = f"{file_stem(Path(path).stem)}.png"
            picture = png(read_image(path))
            with refusals():
                return save_bytes_to_cache(picture, name, str(session.uploads))
    return gr.skip()


def clip_upload(label: str, elem_id: str, *, height: int = 220, visible: bool = True) -> gr.Video:
    """Where a clip is dropped."""
    upload = gr.Video(
        label=label, sources=["upload"], height=height, elem_id=elem_id, buttons=[],
        visible=visible,
    )  # fmt: skip
    hand_over_path(upload)
    first = gr.HTML(elem_id=f"{elem_id}-first", elem_classes="clip-first quiet")
    upload.upload(_first_frame, upload, first, **OWN)
    return upload


def _first_frame(path: str) -> str:
    """What uploads.js shows of a clip that the browser cannot play."""
    with contextlib.suppress(MediaError):
        uri = jpeg_uri(read_context(path, 1)[0])
        return (
            f'<img hidden src="{uri}" alt="">This browser cannot play the clip, but the studio'
            " can read it. Its first frame is shown."
        )
    return ""


def crop_slider(elem_id: str, *, visible: bool = False) -> gr.Slider:
    """Where the square of a picture or a clip lies; crop.js draws it on the upload."""
    slider = gr.Slider(
        0, 1, MIDDLE, step=0.01, label="Crop", elem_id=elem_id, visible=visible, buttons=[],
        info="Drag the square on the picture or move this slider: 0 is left or top, 1 is right"
        " or bottom.",
    )  # fmt: skip
    return controls.while_empty(slider, MIDDLE)


def as_upload(session: Session, path: str | Path) -> str:
    """A copy of a file, as if it had been uploaded: in a folder named by its content.

    Gradio serves files among the uploads from where they are. In one folder, the file of one
    visitor would take the place of another's of the same name. Raises gr.Error on a full disk.
    """
    with refusals():
        copy = save_file_to_cache(path, str(session.uploads))
    os.utime(copy)  # else it is as old as the file, and the next upload may take its space
    return str(copy)


def friendly_name(path: Path) -> str:
    """The name of a bundled picture or clip on the page."""
    return _FRIENDLY.get(path.stem, path.stem.replace("-", " "))


_FRIENDLY = {
    "chelsea": "cat", "life": "stream", "picosdeeuropa": "mountains", "seeding": "dandelions",
}  # fmt: skip


def offer_examples(session: Session, start: Start, upload: gr.Image | gr.Video, title: str) -> None:
    """A row of the bundled pictures or clips below an upload; a click takes one as if uploaded."""
    if session.assets is None:
        return
    paths = sorted(p for p in session.assets.glob("*") if p.suffix in _EXAMPLES[start])
    items = [thumb(session.assets, path, friendly_name(path)) for path in paths]
    row = thumbs(title, items, f"{upload.elem_id}-examples", visible=bool(items))

    def take(chosen: gr.EventData) -> str:
        index = chosen_index(chosen, len(paths))
        if index is None:
            raise refusal(ValueError("This example was not found."))
        return as_upload(session, paths[index])

    row.select(take, None, upload, **OWN)


def wire_uploads(page: StartPage) -> None:
    """Shows the upload that the start needs, and takes a bad file away at once."""
    boxes = [page.picture_box, page.clip_box, page.crop]
    when([page.start.change], _show, page.start, boxes, **LIGHT)
    for upload in (page.picture, page.clip):
        checked = upload.upload(_check, [page.start, page.picture, page.clip], None, **OWN)
        checked.failure(lambda: None, None, upload, **LIGHT)


def _show(start: Start) -> tuple[gr.Column, gr.Column, gr.Slider]:
    picture, clip = start == "frame", start == "clip"
    return gr.Column(visible=picture), gr.Column(visible=clip), gr.Slider(visible=picture or clip)


def _check(start: Start, picture: str | None, clip: str | None) -> None:
    with refusals():
        read_start(start, picture, clip)
