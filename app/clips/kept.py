"""A finished run -> a clip of the library, and back: opened as if it had just been made."""

from __future__ import annotations

import logging
import os
import shutil
import zipfile
import zlib
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from app.clips.exports import Files
from app.clips.progress import Making, Progress
from app.clips.request import Request, request_of
from app.jobs import NO_SPACE, JobView
from app.library import FILM, KeptClip
from nbp_core.config.json import reason
from nbp_core.media.files import MAX_PIXELS, Frames, is_full
from nbp_core.media.pictures import read_image

if TYPE_CHECKING:
    from app.clips.run import Outcome
    from app.session import Session

logger = logging.getLogger(__name__)

FILM_FRAMES: Final = 8
FILM_SIDE: Final = 128
_TOKENS: Final = "shown.npz"
_FILES: Final = tuple(field.name for field in fields(Files))
_PARTS: Final[dict[str, tuple[str, ...]]] = {
    "last": ("tokens_thw", "newest", "frame_HWC"),
    "making": ("tokens_thw", "step_thw"),
}
"""The parts of an outcome that hold arrays, and which of their fields do."""
_DAMAGE: Final = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError,
    EOFError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What reading a torn file of a clip raises."""
_NOT_PLAIN: Final = (*_FILES, *_PARTS, "not_kept")
"""Fields of an outcome that are stored as files or arrays, or not at all."""


def keep(session: Session, clip_id: str, request: Request, outcome: Outcome) -> str:
    """Copies all files of a run into the library, and returns why it cannot, or nothing."""
    record = {
        "model": request.model,
        "files": {n: p.name if (p := getattr(outcome, n)) else None for n in _FILES},
        **{name: _plain(getattr(outcome, name), arrays) for name, arrays in _PARTS.items()},
        **_plain(outcome, _NOT_PLAIN),
    }
    arrays = {
        f"{part}_{name}": getattr(getattr(outcome, part), name)
        for part, names in _PARTS.items()
        for name in names
        if name != "frame_HWC"
    }
    try:
        with session.library.new(clip_id, outcome.clip.stem, record) as folder:
            for path in outcome.clip.parent.iterdir():
                shutil.copy2(path, folder)
            np.savez_compressed(folder / _TOKENS, **arrays)
            (folder / FILM).write_bytes(film(read_image(outcome.strip, MAX_PIXELS)))
    except OSError as error:
        logger.warning("a clip could not be kept in %s: %s", session.library.folder, reason(error))
        return reason(error)
    return ""


def _plain(part: Any, but: tuple[str, ...]) -> dict[str, Any]:
    return {f.name: getattr(part, f.name) for f in fields(part) if f.name not in but}


def film(strip_HWC: Frames) -> bytes:
    """FILM_FRAMES frames of a strip of square frames, from the first to the last, as a JPEG."""
    side = strip_HWC.shape[0]
    count = max(1, strip_HWC.shape[1] // side)
    chosen = np.linspace(0, count - 1, FILM_FRAMES).round().astype(int)
    frames = [strip_HWC[:, i * side : (i + 1) * side] for i in chosen]
    size = (FILM_SIDE, FILM_SIDE)
    row = np.concatenate(
        [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames], axis=1
    )
    return cv2.imencode(".jpg", cv2.cvtColor(row, cv2.COLOR_RGB2BGR))[1].tobytes()


def strip_of(clip: KeptClip) -> Path | None:
    """All frames of a kept clip side by side, a PNG file; None where it has gone."""
    try:
        return _inside(clip.folder, clip.record["files"]["strip"])
    except (KeyError, TypeError, ValueError):
        return None


def is_whole(clip: KeptClip) -> bool:
    """Whether all files of a kept clip are there."""
    names = clip.record.get("files")
    if not isinstance(names, dict):
        return False
    try:
        return all(_inside(clip.folder, name) for name in names.values() if name)
    except (TypeError, ValueError):
        return False


def find_clip(session: Session, clip_id: str | None) -> JobView | None:
    """The job that made a clip, opened from the library if the studio no longer has it.

    None where there is no such clip. Raises ValueError, one sentence, for one that is damaged.
    """
    with session.opening:
        view = session.jobs.view(clip_id)
        clip = session.library.get(clip_id) if view is None or _is_without_files(view) else None
        if clip is None:
            return view
        try:
            folder = session.write_output(clip.id, partial(_copied, clip.folder))
            session.jobs.adopt(clip.id, *_restored(folder, clip))
        except _DAMAGE as error:
            if is_full(error):
                raise ValueError(NO_SPACE) from error
            logger.warning("the clip in %s cannot be opened: %r", clip.folder.name, error)
            raise ValueError("This clip is damaged and cannot be opened. Delete it.") from error
        return session.jobs.view(clip.id)


def _copied(kept: Path, folder: Path) -> Path:
    """Copies the files of a clip. The copies count as new: older files make way before them."""
    shutil.copytree(kept, folder, copy_function=shutil.copyfile, dirs_exist_ok=True)
    os.utime(folder)
    return folder


def _is_without_files(view: JobView) -> bool:
    """Whether the files of a clip that was made here have made way for newer ones."""
    clip = getattr(view.result, "clip", None)
    return view.state.is_final and isinstance(clip, Path) and not clip.is_file()


def _restored(folder: Path, clip: KeptClip) -> tuple[Request, Outcome]:
    from app.clips.run import Outcome

    record = clip.record
    files: dict[str, Any] = {name: _inside(folder, record["files"][name]) for name in _FILES}
    with np.load(folder / _TOKENS, allow_pickle=False) as arrays:
        of_last, of_making = (
            {n: arrays[f"{part}_{n}"] for n in names if n != "frame_HWC"}
            for part, names in _PARTS.items()
        )
    said = record["last"]
    last = Progress(
        **{**said, "block_shape": tuple(said["block_shape"])},
        **of_last,
        frame_HWC=read_image(files["last_frame"]),
    )
    said = record["making"]
    times = {name: tuple(said[name]) for name in ("step_s", "frame_s")}
    making = Making(**{**said, **times}, **of_making)
    # Clips of earlier versions lack the fields that have a default.
    names = {f.name for f in fields(Outcome)} - set(_NOT_PLAIN)
    more = {name: record[name] for name in names & record.keys()}
    outcome = Outcome(
        **files, **{**more, "phases": tuple(more["phases"])}, last=last, making=making
    )
    return request_of(clip.manifest, clip.model), outcome


def _inside(folder: Path, name: str | None) -> Path | None:
    """A file of the clip's own folder. Raises ValueError for a name that leads elsewhere."""
    if name is None:
        return None
    path = folder / name
    if Path(name).name != name or path.is_symlink() or not path.is_file():
        raise ValueError(f"{name} is not a file of the clip")
    return path
