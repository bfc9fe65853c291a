"""What the controls of the page hold, or a call of the API gives: by name, every type checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal

from pydantic import ConfigDict, ValidationError
from pydantic.dataclasses import dataclass

from nbp_core.config.shapes import CLIP_FRAMES

Start = Literal["action", "frame", "clip"]
LENGTHS = (17, 33, 65)
"""Frames of the clips on offer."""
_LONGEST_SHOWN = 40
_WANTED = {
    "int": "a whole number",
    "float": "a number",
    "string": "text",
    "literal": '"action", "frame" or "clip"',
}
"""What a field must be, by the beginning of pydantic's names of errors."""


@dataclass(frozen=True, kw_only=True, config=ConfigDict(strict=True, extra="forbid"))
class Form:
    """The fields in the API's order. Their defaults are those of a call that leaves them out."""

    model: str | None = None
    start: Start = "action"
    action: str | None = ""
    picture: str | None = None
    """The path of an uploaded file."""
    clip: str | None = None
    """The path of an uploaded file."""
    block: str = "1x1x16"
    num_frames: int = CLIP_FRAMES
    temperature: float = 1.0
    top_k: int = 16_000
    top_p: float = 0.9
    guidance: float = 1.0
    seed: int | None = None
    """None: one is drawn."""
    actions: str | None = ""
    """Instead of one action, several for a number of latent frames each, which set the length."""


FIELDS = tuple(field.name for field in fields(Form))


def read_form(values: Mapping[str, Any]) -> Form:
    """The values as a form. Raises ValueError, one sentence, for the first that it cannot hold."""
    try:
        form = Form(**{name: _whole(value) for name, value in values.items()})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        wanted = _WANTED.get(first["type"].partition("_")[0], "left out")
        shown = _shown(first["input"])
        raise ValueError(f"{first['loc'][0]} must be {wanted}, not {shown}") from error
    if form.num_frames not in LENGTHS:
        lengths = ", ".join(map(str, LENGTHS))
        raise ValueError(f"num_frames must be one of {lengths}, not {form.num_frames}")
    return form


def _whole(value: Any) -> Any:
    """17.0 as 17: programs and browsers write whole numbers either way."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _shown(value: object) -> str:
    """A value as JSON writes it, the beginning of a long one."""
    text = json.dumps(value, default=str)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 3]}..."
