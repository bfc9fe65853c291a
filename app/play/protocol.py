"""What a player and the studio say to each other over the WebSocket `play/socket`.

One connection is one player, and it ends with the page. The page asks for every latent frame: it
sends `step` with the key that is held when its buffer of frames runs low, and asks again when the
answer is there. So nothing is made that nobody sees, memory stays as it is, and a page that is
slow, paused or hidden costs nothing.

The page sends text, one JSON object each, of a `type` and the fields of a class below: Begin, Step,
Change, Save. An unknown type, field or value ends the connection (1008). app/sockets.py bounds size
and number of messages. At most MAX_UNREAD may wait.

The studio sends text, one JSON object each:

    {"type": "waiting", "why": sentence}            nothing comes for a while
    {"type": "started", ...}                        a play began; its fields are in Started
    {"type": "changed", ...}                        the same fields, after Change
    {"type": "saved", "id", "name", "recording"}    what was played, as its file holds it
    {"type": "refused", "why": sentence}            the last message could not be followed
    {"type": "ended", "why": sentence}              the connection is closed next

and one binary message for every latent frame: the length of a header (4 bytes, the most significant
first), the header (JSON, the fields of Header), and a PNG picture of the frames from top to bottom.
With the simulator beside, its frames are the right half of the picture.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from app.clips.request import MAX_SEED
from nbp_core.media.files import Frames

PATH = "/play/socket"
MAX_UNREAD = 16
_PNG_LEVEL = 1
"""zlib's compression level: higher levels take longer than a latent frame lasts."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


Name = Annotated[str, Field(max_length=200)]
Block = Annotated[str, Field(pattern=r"^\d{1,3}x\d{1,3}x\d{1,3}$")]
Temperature = Annotated[float, Field(ge=0, le=2)]
Guidance = Annotated[float, Field(ge=1, le=10)]


class Begin(_Message):
    """Starts a play, and ends the one before."""

    type: Literal["begin"]
    start: Name
    """The id of a Start."""
    model: Name
    block: Block
    temperature: Temperature
    guidance: Guidance | None = None
    """How strongly the model follows the keys; None is the model's own."""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)]
    beside: bool = False
    """Whether the keys are the recorded ones, and the simulator's frames stand beside."""


class Step(_Message):
    """Asks for the next latent frame."""

    type: Literal["step"]
    number: Annotated[int, Field(ge=0, lt=2**53)]
    """Comes back with the frames."""
    key: Annotated[str, Field(max_length=40)]
    """Not read where keys were recorded."""


class Change(_Message):
    """Changes what holds from the next latent frame on; None leaves it as it is."""

    type: Literal["change"]
    model: Name | None = None
    block: Block | None = None
    temperature: Temperature | None = None
    guidance: Guidance | None = None


class Save(_Message):
    """Asks for the recording of what was played."""

    type: Literal["save"]


Message = Begin | Step | Change | Save
_ADAPTER: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])


def read_message(text: str) -> Message:
    """Raises ValueError, one sentence, for anything else than a message."""
    try:
        return _ADAPTER.validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"])) or "the message"
        raise ValueError(f"{place} is not what the studio reads: {first['msg']}.") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """The state of a play that the page shows."""

    title: str
    world: str
    model: str
    keys: tuple[str, ...]
    block: str
    blocks: tuple[tuple[str, str], ...]
    """(what people read, shape) of the choices."""
    temperature: float
    guidance: float
    length: int | None
    """Latent frames, where keys were recorded."""
    beside: bool
    is_replay: bool
    window: int
    """Latent frames that the model sees beside the first."""
    weights: str
    """'weights tiny (f00dcafe) and tokenizer nano, CPU, 2 cores'."""
    note: str = ""
    """How a replay may differ from its recording, in sentences."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """The header of a message with the frames of one latent frame. Times are in milliseconds."""

    number: int
    """Number of the Step that is answered; -1 for the first frame."""
    key: str
    is_out: bool
    """Whether the key leads out of the arm's reach, so that it moves nothing."""
    count: int
    """Frames in the picture."""
    sample_ms: float
    decode_ms: float
    wait_ms: float
    """Until it was this player's turn."""
    steps: int
    players: int
    """Who play at the moment."""
    psnr: tuple[float, ...]
    """dB against the simulator's frames; none without them."""
    still: tuple[float, ...]
    """The same for the simulator's first frame, held still."""
    sharpness: float
    """Sharpness of the last frame, as nbp_core.media.drift measures it."""


def text_of(kind: str, **fields: Any) -> str:
    """A message of the studio."""
    return json.dumps({"type": kind, **fields})


def started_text(kind: Literal["started", "changed"], started: Started) -> str:
    """The message of a play that began or changed."""
    return text_of(kind, **asdict(started))


def frames_bytes(header: Header, frames_THWC: Frames, beside_THWC: Frames | None) -> bytes:
    """The message of a latent frame."""
    if beside_THWC is not None:
        frames_THWC = np.concatenate([frames_THWC, beside_THWC], axis=2)
    picture_HWC = cv2.cvtColor(np.concatenate(list(frames_THWC)), cv2.COLOR_RGB2BGR)
    png = cv2.imencode(".png", picture_HWC, [cv2.IMWRITE_PNG_COMPRESSION, _PNG_LEVEL])[1]
    text = json.dumps(asdict(header)).encode()
    return struct.pack(">I", len(text)) + text + png.tobytes()
