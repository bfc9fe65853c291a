"""The API's call for attention: a clip's maps as files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gradio as gr

from app.attention import clips
from app.attention.clips import UPLOAD
from app.attention.opened import Views
from app.attention.shown import Choice, open_clip
from app.clips.form import MIDDLE, whole
from app.parts.api import CALLS, inputs_of
from app.parts.events import refusals
from app.session import Session
from nbp_core.config.json import JsonConfig
from nbp_core.config.shapes import parse_block_shape

Answer = tuple[str, str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted(JsonConfig):
    """The values of a call of the API, checked."""

    clip: str
    """The path of an uploaded file."""
    model: str | None
    """None: the studio's first model."""
    action: str | None
    block: str
    layer: int
    head: str


def read_wanted(**values: Any) -> Wanted:
    """The values of a call; the head may be a number.

    Raises ValueError, one sentence, for the first of a wrong type.
    """
    if values["clip"] is None:
        raise ValueError("clip must be a file: a clip or a picture")
    read = {name: whole(value) for name, value in values.items()}
    if type(read["head"]) is int:
        read["head"] = str(read["head"])
    return Wanted.from_dict(read)


def offer_api(session: Session, views: Views) -> Callable[..., Answer]:
    """Wires the call, with components that nobody sees; returns what it does."""

    def attention(
        clip: Any, model: Any = None, action: Any = "", block: Any = "1x1x16", layer: Any = 1,
        head: Any = "mean",
    ) -> Answer:  # fmt: skip
        """What the heads look at in a clip: a PNG, the exact weights as NPZ, and the settings."""
        with refusals():
            wanted = read_wanted(
                clip=clip, model=model, action=action, block=block, layer=layer, head=head
            )
            model = wanted.model or session.first_model()
            found = clips.from_file(session, Path(wanted.clip), model, title="your clip")
            choice = Choice(
                UPLOAD, wanted.clip, MIDDLE, model, False, wanted.action or "", wanted.block,
                wanted.layer, wanted.head,
            )  # fmt: skip
            found = replace(found, action=wanted.action or None)
            session.pipeline(model)  # views of earlier weights are told by those that are loaded
            shown = open_clip(views, found, parse_block_shape(wanted.block), choice)
            session.make_room()
            paths = shown.write(session.uploads)
        return str(paths[".png"]), str(paths[".npz"]), shown.report()

    with gr.Row(visible=False):
        button = gr.Button()
        inputs = inputs_of(
            {"clip": None, "model": None, "action": "", "block": "1x1x16", "layer": 1,
             "head": "mean"},
            clip="clip or picture", model="name of a model; null: the studio's first one",
        )  # fmt: skip
        outputs = [gr.File(label="map"), gr.File(label="weights"), gr.JSON(label="settings")]
    button.click(
        attention, inputs, outputs,
        api_name="attention", **CALLS,
    )  # fmt: skip
    return attention
