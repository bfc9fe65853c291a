"""A clip or a settings file made here -> the values of the page that make it again.

The file may be anything: every value is checked, and what cannot be used is said in one sentence.
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.clips.form import LENGTHS, Start
from app.clips.request import length_of, request_of, values_of
from app.parts import controls
from app.session import Session
from nbp_core.config.presets import RANDOM_WEIGHTS
from nbp_core.media.files import MediaError, is_video
from nbp_core.media.video import read_comment

if TYPE_CHECKING:
    from nbp_core.generation.pipeline import VideoPipeline

MAX_SETTINGS_BYTES = 1_000_000
_WHOLE_IN_A_BROWSER = 2**53
_LIMITS = {
    "temperature": (0, 2),
    "top_k": (1, controls.MAX_TOP_K),
    "top_p": (0.05, 1),
    "guidance_scale": (1, 6),
    "seed": (0, _WHOLE_IN_A_BROWSER - 1),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Restored:
    """The arguments of make_request, and a line on what could not be restored."""

    values: dict[str, Any]
    note: str


def restore(session: Session, path: str | Path) -> Restored:
    """Reads the settings in a file. Raises ValueError when they are none, or cannot be had here."""
    name, manifest = Path(path).name, read_manifest(Path(path))
    try:
        model = manifest["model"]
        model = f"{model:.80}" + (f" ({RANDOM_WEIGHTS})" if manifest.get("weights") else "")
        _check_sampling(manifest["sampling"])
        request = request_of(manifest, model)
        own = length_of(request.start, request.actions)
        if manifest["num_frames"] not in ((own,) if request.actions else LENGTHS):
            raise ValueError("num_frames")
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ValueError(f"{name} has settings that this page cannot show.") from error
    model = session.model_called(model)
    pipeline = session.pipeline(model)
    is_known = request.action is None or request.action in pipeline.actions
    if not (is_known and set(request.actions) <= set(pipeline.timeline_names)):
        raise ValueError(f"{name} has an action that the model {model!r} lacks.")
    steps = controls.count_steps(session, model, request.start, request.num_frames)
    if request.sampling.block_shape not in steps:
        raise ValueError(f"{name} has a block shape that the model {model!r} does not support.")
    source = _source(session, manifest["context"])
    return Restored(
        values=values_of(replace(request, model=model, source=source)),
        note=_note(manifest, pipeline, request.start, source),
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """The settings in a clip, a picture, a token or a settings file of this studio.

    Raises ValueError, one sentence, for a file without any.
    """
    try:
        manifest = json.loads(_settings_text(path))
    except MediaError:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name} has no settings of this studio.") from error
    if isinstance(manifest, dict) and ("play" in manifest or "keys" in manifest):
        raise ValueError(
            f"{path.name} is a recording of the Play tab. Drop it there to replay it, or choose it"
            " here as a clip to continue."
        )
    if not isinstance(manifest, dict) or manifest.get("software") != "NBP Studio":
        raise ValueError(f"{path.name} has no settings of this studio.")
    return manifest


def _settings_text(path: Path) -> str:
    if not is_video(path):
        with path.open("rb") as file:
            head = file.read(MAX_SETTINGS_BYTES)
        if head.lstrip()[:1] == b"{":
            return head.decode()
        if head[:2] == b"PK":
            return _text_of_tokens(path)
    return read_comment(path) or ""


def _text_of_tokens(path: Path) -> str:
    """The settings of an .npz, read without numpy, which would trust the sizes in the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.getinfo("settings.npy")
            plain = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            if not plain or member.flag_bits & 1 or member.file_size > 4 * MAX_SETTINGS_BYTES:
                return ""
            data = archive.read(member)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error, struct.error):
        return ""
    # Magic (6), version (2), length of the header (2), header; then four bytes a letter.
    start = 10 + int.from_bytes(data[8:10], "little")
    return data[start:].decode("utf-32-le", errors="replace")


def _check_sampling(settings: dict[str, Any]) -> None:
    """Raises ValueError for sampling settings that the page's controls cannot show."""
    for key, (least, most) in _LIMITS.items():
        if isinstance(settings[key], bool) or not least <= settings[key] <= most:
            raise ValueError(key)


def _source(session: Session, context: dict[str, Any] | None) -> str | None:
    """The file a run of this studio started from, if it had the same context and is still there."""
    if context is None:
        return None
    for view in session.jobs.finished():
        same = getattr(view.result, "manifest", {}).get("context") == context
        source = getattr(view.request, "source", None)
        if same and source and Path(source).is_file():
            return str(source)
    return None


def _note(
    manifest: dict[str, Any], pipeline: VideoPipeline, start: Start, source: str | None
) -> str:
    notes = ["All settings are restored."]
    if start != "action" and source is None:
        what = "first frame is" if start == "frame" else "first five frames are"
        notes.append(f"The {what} not in the file. Choose the same {_NAMES[start]} again.")
    weights = pipeline.identity.get("weight_format")
    if manifest.get("sha256") != pipeline.identity.get("sha256"):
        notes.append("The model's weights have changed since, so the frames will differ.")
    elif manifest.get("device", pipeline.device) != pipeline.device:
        notes.append("It was made on another kind of device, so the frames may differ.")
    elif manifest.get("weight_format", weights) != weights:
        notes.append("Its weights were stored in another format, so the frames may differ.")
    return " ".join(notes)


_NAMES: dict[Start, str] = {"frame": "picture", "clip": "clip"}
