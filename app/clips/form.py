"""The settings of a clip by name, from the page's controls or a call of the API, checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from nbp_core.config.json import JsonConfig, check_range
from nbp_core.config.shapes import CLIP_FRAMES

Start = Literal["action", "frame", "clip"]
MIDDLE = 0.5
"""The place of the middle square."""
LENGTHS = (17, 33, 65)
"""The numbers of frames that the page offers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Form(JsonConfig):
    """The fields in the API's order. Their defaults are those of a call that leaves them out, but
    for the model: a call has the studio's first one."""

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
    crop: float = MIDDLE
    """Where the square that is used lies along the longer side of the picture or the clip, from 0
    (left or top) to 1."""

    def __post_init__(self) -> None:
        if self.num_frames not in LENGTHS:
            lengths = ", ".join(map(str, LENGTHS))
            raise ValueError(f"num_frames must be one of {lengths}, not {self.num_frames}")
        check_range(self, 0, 1, "crop")


FIELDS = tuple(field.name for field in fields(Form))


def read_form(values: Mapping[str, Any]) -> Form:
    """The values as a form. Raises ValueError, one sentence, for the first that it cannot hold.

    The number of frames may be text, such as "17": the API's page long called it so.
    """
    read = {name: whole(value) for name, value in values.items()}
    length = read.get("num_frames")
    if isinstance(length, str) and length in map(str, LENGTHS):
        read["num_frames"] = int(length)
    return Form.from_dict(read)


def whole(value: Any) -> Any:
    """17.0 as 17: programs and browsers write whole numbers either way.

    Beyond 2^53 a float has lost digits: as a whole number it would be another than was typed.
    """
    is_exact = isinstance(value, float) and value.is_integer() and abs(value) < 2**53
    return int(value) if is_exact else value
