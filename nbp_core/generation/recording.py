"""The recording of a play: its start, keys and settings, which give the same frames again.

A recording is a JSON file of a few kilobytes. The first frame is stored as tokens, so a photograph
at the start is not in the file itself. The same weights on the same kind of processor give the same
frames; `differences` lists what differs.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nbp_core.blocks.grid import BlockLayout
from nbp_core.config.json import JsonConfig, check_range, reason
from nbp_core.config.models import MAX_CODES, MAX_TOKENS
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.timeline import parse_timeline
from nbp_core.generation.records import Tokens
from nbp_core.media.files import MediaError, is_video, shown_name, write_text
from nbp_core.media.video import read_comment

World = Literal["arm", "camera"]
RECORDING_FORMAT = 1
MAX_BYTES = 4_000_000
"""Largest file that is read as a recording or as keys."""
MAX_CHANGES = 10_000
"""Largest number of changes of settings in a recording."""
MAX_SHOWN_START = 80
"""Largest number of characters of `start` that are shown."""
COMMENT_KEY = "play"
"""Key of the recording in the JSON comment of a clip."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fingerprint(JsonConfig):
    """The models and the device that computed the frames. An empty text is unknown."""

    model: str
    sha256: str = ""
    """SHA-256 of the transformer's weights."""
    tokenizer_sha256: str = ""
    weight_format: str = ""
    """How the weights are held for decoding."""
    device: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingChange(JsonConfig):
    """New sampling settings, from a key on."""

    key: int
    """Number of keys pressed before the change."""
    sampling: SamplingConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class PlayRecording(JsonConfig):
    """Start, keys and settings of a play. Raises ValueError for values out of range, and for blocks
    that do not tile a latent frame."""

    format: int = RECORDING_FORMAT
    world: World
    keys: str
    """One key per latent frame; `left*4 stay` is left four times, then stay."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    changes: tuple[SamplingChange, ...] = ()
    """In the order of their keys."""
    first_frame: tuple[tuple[int, ...], ...]
    """The first latent frame's tokens (h, w)."""
    start: str = ""
    """A description of the first frame, for people."""
    fingerprint: Fingerprint

    def __post_init__(self) -> None:
        if self.format != RECORDING_FORMAT:
            raise ValueError(f"format must be {RECORDING_FORMAT}, not {self.format}")
        widths = {len(row) for row in self.first_frame}
        if len(widths) != 1 or 0 in widths or sum(map(len, self.first_frame)) > MAX_TOKENS:
            raise ValueError("the rows of first_frame must have equally many tokens")
        for row in self.first_frame:
            if not all(0 <= token < MAX_CODES for token in row):
                raise ValueError(f"every token of first_frame must be 0 to {MAX_CODES - 1:,}")
        if len(self.changes) > MAX_CHANGES:
            raise ValueError(f"there may be {MAX_CHANGES:,} changes, not {len(self.changes):,}")
        last, num_keys = 0, len(self.pressed)
        for change in self.changes:
            check_range(change, last, num_keys, "key")
            last = change.key
        frame = (1, len(self.first_frame), len(self.first_frame[0]))
        for sampling in {self.sampling, *(change.sampling for change in self.changes)}:
            BlockLayout(frame, sampling.block_shape or frame)

    @property
    def pressed(self) -> tuple[str, ...]:
        """The keys, one for each latent frame."""
        return parse_timeline(self.keys)

    @property
    def script(self) -> list[tuple[str, SamplingConfig | None]]:
        """Each key, with the settings that change before it.

        Of several changes before one key only the last shows in the frames.
        """
        changes = {change.key: change.sampling for change in self.changes}
        return [(key, changes.get(number)) for number, key in enumerate(self.pressed)]

    @property
    def shown_start(self) -> str:
        """`start`, cut if it is too long for a title."""
        return self.start[:MAX_SHOWN_START]

    @property
    def tokens_hw(self) -> Tokens:
        """The tokens of the first frame, int64 (h, w)."""
        return np.array(self.first_frame, np.int64)

    def differences(self, here: Fingerprint) -> list[str]:
        """Why frames may differ from the recorded ones: one sentence per reason, or none."""
        reasons = {
            "sha256": "other weights",
            "tokenizer_sha256": "another tokenizer",
            "weight_format": "weights held in another format",
            "device": "another kind of device",
        }
        recorded, found = dataclasses.asdict(self.fingerprint), dataclasses.asdict(here)
        different = [what for name, what in reasons.items() if recorded[name] != found[name]]
        recorder = self.fingerprint.model[:MAX_SHOWN_START]
        whose = f"recorded with {recorder!r}, replayed with {here.model!r}"
        return [f"frames may differ from the recording: {what} ({whose})" for what in different]

    def write(self, path: Path) -> None:
        """Writes the JSON file. Raises MediaError if it cannot be written."""
        write_text(path, json.dumps(self.to_dict()) + "\n")

    def comment(self) -> str:
        """The metadata comment for a clip of this play, which `read_recording` reads."""
        facts = {"generated": True, "software": "NBP Studio", "model": self.fingerprint.model}
        return json.dumps({**facts, COMMENT_KEY: self.to_dict()})


def fingerprint_of(model: str, identity: Mapping[str, Any], device: str) -> Fingerprint:
    """The fingerprint of a pipeline's model, identity and kind of device."""
    names = {one.name for one in dataclasses.fields(Fingerprint)}
    known = {name: str(value) for name, value in identity.items() if name in names}
    return Fingerprint(**{**known, "model": model, "device": device})


def read_recording(path: Path) -> PlayRecording:
    """The recording in a JSON file, or in the comment of a clip that was saved from a play.

    Raises MediaError for any other file, and ValueError that names a wrong setting.
    """
    name = shown_name(path)
    if is_video(path):
        comment = read_comment(path)
        try:
            data = json.loads(comment or "")[COMMENT_KEY]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise MediaError(f"{name} has no recording of a play in it.") from error
    else:
        data = _parsed(path, name)
    try:
        return PlayRecording.from_dict(data)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def read_text(path: Path) -> str:
    """The text of a small file, without a byte order mark.

    Raises MediaError for a file that is too large or cannot be read, and UnicodeDecodeError.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MediaError(f"{shown_name(path)} cannot be read: {reason(error)}.") from error
    if len(text) > MAX_BYTES:
        raise MediaError(f"{shown_name(path)} is too large for a recording.")
    return text.decode("utf-8-sig")


def _parsed(path: Path, name: str) -> Any:
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, MediaError):
            raise
        raise MediaError(f"{name} is not a recording of a play.") from error
