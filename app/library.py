"""The clips that were kept: a folder of the user's that outlives the studio, within a limit.

Each clip has a folder of its own with its files and clip.json, which says how it was made. What
lies there may be anything: a clip that cannot be read is left out.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from app.folders import file_stem, num_bytes
from nbp_core.config.sampling import SamplingConfig

logger = logging.getLogger(__name__)

FILM: Final = "film.jpg"
"""Frames of the clip side by side, for the gallery."""
_MAX_RECORD_BYTES: Final = 4_000_000
_FORMAT: Final = 1
_TORN_S: Final = 3600
"""Age at which a folder that was never finished is removed."""
_RECORD, _PIN = "clip.json", "pinned"


def data_folder() -> Path:
    """Where this system keeps a user's data of programs: a folder of it is for clips.

    Raises ValueError where the user has no home.
    """
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = _home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or _home() / ".local" / "share")
    return base / "nbp-studio" / "clips"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise ValueError(
            "This user has no home folder. Name a folder for clips with --clips-dir."
        ) from error


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptClip:
    """A clip of the library, as a list of clips shows it."""

    id: str
    """The id of the job that made it."""
    folder: Path
    model: str
    made: datetime
    manifest: dict[str, Any]
    num_frames: int
    is_complete: bool
    is_pinned: bool
    record: dict[str, Any]
    """All that was kept of its run, unchecked."""


class Library:
    """The clips of one folder. Safe to use from several threads."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self._lock = threading.RLock()

    def clips(self) -> list[KeptClip]:
        """Every clip that can be read: the pinned first, then the newest."""
        records = self.folder.glob(f"*/{_RECORD}") if self.folder.is_dir() else ()
        found = [
            clip
            for path in records
            if not path.parent.name.startswith(".") and (clip := _read(path)) is not None
        ]
        return sorted(found, key=lambda clip: (clip.is_pinned, clip.made), reverse=True)

    def get(self, clip_id: str | None) -> KeptClip | None:
        """The clip of that id; None where there is none."""
        return next((clip for clip in self.clips() if clip.id == clip_id), None)

    @contextlib.contextmanager
    def new(self, clip_id: str, title: str, record: dict[str, Any]) -> Iterator[Path]:
        """A folder to fill with a clip's files. The clip is there whole at its end or not at all.

        The oldest clips that are not pinned make way. Raises OSError where nothing can be written.
        """
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        name = f"{stamp}_{file_stem(title)}_{file_stem(clip_id)}"
        temporary = self.folder / f".{name}"
        temporary.mkdir(mode=0o700, parents=True)
        try:
            yield temporary
            whole = {**record, "format": _FORMAT, "id": clip_id, "made": time.time()}
            (temporary / _RECORD).write_text(json.dumps(whole))
            temporary.rename(self.folder / name)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        self._trim()

    def pin(self, clip: KeptClip, is_pinned: bool) -> None:
        """A pinned clip stands first and never makes way by itself. Raises OSError where the folder
        cannot be changed."""
        if is_pinned:
            (clip.folder / _PIN).touch()
        else:
            (clip.folder / _PIN).unlink(missing_ok=True)

    def delete(self, clip: KeptClip) -> None:
        """Removes a clip with all its files. Raises OSError where the folder cannot be changed."""
        with contextlib.suppress(FileNotFoundError):  # another page has just deleted it
            shutil.rmtree(clip.folder)

    def num_bytes(self) -> int:
        """Bytes that all clips take."""
        return num_bytes(self.folder) if self.folder.is_dir() else 0

    def _trim(self) -> None:
        """Deletes the oldest clips that are not pinned until the rest fits; never the newest."""
        with self._lock:
            for torn in self.folder.glob(".*_*"):
                with contextlib.suppress(OSError):  # another studio has just finished it
                    if time.time() - torn.stat().st_mtime > _TORN_S:
                        shutil.rmtree(torn, ignore_errors=True)
            free = sorted(
                (clip for clip in self.clips() if not clip.is_pinned), key=lambda clip: clip.made
            )
            total = self.num_bytes()
            for clip in free[:-1]:
                if total <= self.max_bytes:
                    return
                size = num_bytes(clip.folder)
                with contextlib.suppress(OSError):  # the new clip is there all the same
                    self.delete(clip)
                    total -= size


def _read(record: Path) -> KeptClip | None:
    try:
        stat = record.stat()
        is_pinned = (record.parent / _PIN).exists()
    except OSError:
        return None  # deleted meanwhile
    return _read_once(record, (stat.st_mtime_ns, stat.st_size), is_pinned)


@lru_cache(maxsize=1024)
def _read_once(path: Path, stamp: tuple[int, int], is_pinned: bool) -> KeptClip | None:
    try:
        record = _parse(path)
        manifest = dict(record["manifest"])
        # Whole: it may have come without settings that the page shows.
        manifest["sampling"] = SamplingConfig.of_manifest(manifest).for_manifest()
        manifest["model"] = str(manifest["model"])
        manifest["action"] = None if manifest["action"] is None else str(manifest["action"])
        if manifest.get("context") is not None:
            int(manifest["context"]["num_frames"])
        return KeptClip(
            id=str(record["id"]),
            folder=path.parent,
            model=str(record["model"]),
            made=datetime.fromtimestamp(float(record["made"])),
            manifest=manifest,
            num_frames=int(record["num_frames"]),
            is_complete=bool(record["is_complete"]),
            is_pinned=is_pinned,
            record=record,
        )
    except (OSError, KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        logger.warning("the clip in %s is left out: %r", path.parent.name, error)
        return None


def _parse(path: Path) -> dict[str, Any]:
    if path.stat().st_size > _MAX_RECORD_BYTES:
        raise ValueError(f"{path.name} is too large")
    try:
        record = json.loads(path.read_text())
        json.dumps(record, ensure_ascii=False).encode()  # refused: texts that no page can be sent
    except RecursionError as error:
        raise ValueError(f"{path.name} is not JSON") from error
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise ValueError(f"{path.name} is not a clip of this studio")
    return record
