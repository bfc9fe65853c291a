"""Sources of clips for training: tar shards as `data metaworld` writes them, or folders of videos.

A folder of shards holds train-*.tar and val-*.tar (WebDataset's layout: KEY.mp4 beside KEY.json
with its action and look). A folder of videos holds one sub-folder for each action. Both give
ClipRecords.
Shapes: N clips, T H W frames, C colour; all frames are uint8 RGB. Knows nothing of torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from nbp_core.config.shapes import CLIP_FRAMES, CLIP_SIDE
from nbp_core.media.files import Frames, MediaError, replacing
from nbp_core.media.video import crop_resize, read_video_bytes, read_video_window

Split = Literal["train", "val"]

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".webm", ".mkv", ".avi", ".ogv"})
WINDOW_SECONDS = 4.0
"""A longer video gives its middle seconds, so that a clip shows one action at a watchable pace."""
VAL_SHARE = 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipRecord:
    """One clip, frames_THWC at its final size; `look` says how it was rendered, if it was."""

    key: str
    action: str
    frames_THWC: Frames
    look: str = ""


def open_clips(
    folder: str | Path, split: Split, limit_per_action: int | None = None
) -> Iterator[ClipRecord]:
    """The clips of a folder of shards or of videos, whichever it is; at most so many an action.

    Clips that cannot be read are logged and left out. Raises MediaError when the folder is neither.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MediaError(f"there is no folder {folder.name!r} with clips.")
    shards = sorted(folder.glob(f"{split}-*.tar"))
    if shards:
        for shard in shards:
            yield from read_shard(shard, limit_per_action)
    elif any(_videos(folder)):
        yield from _read_video_folder(folder, split, limit_per_action)
    else:
        raise MediaError(
            f"{folder.name} has neither {split}-*.tar shards nor sub-folders with videos."
        )


def read_shard(path: Path, limit: int | None = None) -> Iterator[ClipRecord]:
    """The clips of a tar of KEY.mp4 + KEY.json, in its order; at most `limit`.

    Raises MediaError when the file is no tar.
    """
    members = _members(path)
    names = [name for name in members if name.endswith(".mp4")][:limit]
    with tarfile.open(path) as tar:
        files = []
        for name in names:
            label = members.get(f"{name.removesuffix('.mp4')}.json")
            files.append((name, _read_member(tar, members[name]), _read_member(tar, label)))
    # Decoding runs in processes of its own, so threads are enough to use all cores.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for record in pool.map(lambda file: _decoded(path.name, *file), files):
            if record is not None:
                yield record


def _decoded(shard: str, name: str, video: bytes, label_json: bytes) -> ClipRecord | None:
    """One clip of a shard, or None (and a line in the log) when it cannot be read."""
    try:
        label = json.loads(label_json)
        action, look = str(label["action"]), str(label.get("look", ""))
        return ClipRecord(name.removesuffix(".mp4"), action, _fitted(read_video_bytes(video)), look)
    except (KeyError, TypeError, ValueError) as error:
        _log.warning("%s of %s left out: %r", name, shard, error)
        return None


def _members(path: Path) -> dict[str, tarfile.TarInfo]:
    try:
        with tarfile.open(path) as tar:
            return {member.name: member for member in tar}
    except (tarfile.TarError, OSError) as error:
        raise MediaError(f"{path.name} is not a tar of clips, or is damaged.") from error


def _read_member(tar: tarfile.TarFile, member: tarfile.TarInfo | None) -> bytes:
    file = None if member is None else tar.extractfile(member)
    return b"" if file is None else file.read()


def _fitted(frames_THWC: Frames) -> Frames:
    """Frames of the training size; a clip of another length is sampled evenly."""
    if len(frames_THWC) != CLIP_FRAMES:
        chosen = np.linspace(0, len(frames_THWC) - 1, CLIP_FRAMES).round().astype(int)
        frames_THWC = frames_THWC[chosen]
    return crop_resize(frames_THWC, CLIP_SIDE)


def _videos(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*/*")) if path.suffix.lower() in VIDEO_SUFFIXES)


def validation_keys(keys: Iterable[str]) -> set[str]:
    """Which videos belong to validation: told by a hash of their path inside the folder, so that
    adding files moves none from one split to the other. Of a few videos it is at least one."""
    rank = {key: int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) for key in keys}
    chosen = {key for key, value in rank.items() if value < VAL_SHARE * 16**8}
    return chosen or ({min(rank, key=rank.__getitem__)} if len(rank) > 1 else set())


def _read_video_folder(folder: Path, split: Split, limit: int | None) -> Iterator[ClipRecord]:
    """The videos of a folder's sub-folders, each named as its action.

    A clip is evenly spaced frames of the middle WINDOW_SECONDS (of the whole, when it is shorter),
    cut to the middle square.
    """
    counts: Counter[str] = Counter()
    paths = {path.relative_to(folder).as_posix(): path for path in _videos(folder)}
    validation = validation_keys(paths)
    for key, path in paths.items():
        action = path.parent.name
        if (key in validation) != (split == "val") or counts[action] == limit:
            continue
        try:
            frames = read_video_window(path, CLIP_FRAMES, WINDOW_SECONDS)
        except MediaError as error:
            _log.warning("%s left out: %s", key, error)
            continue
        counts[action] += 1
        yield ClipRecord(key, action, crop_resize(frames, CLIP_SIDE))


@dataclass(frozen=True)
class ClipSet:
    """A split of clips, decoded: frames_NTHWC, and for each its action and look."""

    frames_NTHWC: Frames
    actions: list[str]
    looks: list[str]

    def __len__(self) -> int:
        return len(self.actions)


def load_clips(folder: str | Path, split: Split, cache_folder: str | Path) -> ClipSet:
    """All clips of a split, decoded once into `cache_folder`; the frames are memory-mapped.

    Decoded anew when the folder's files change. Raises MediaError when no clip can be read.
    """
    cache = Path(cache_folder) / f"{split}-{_fingerprint(Path(folder))}.npy"
    labels = cache.with_suffix(".json")
    if not labels.is_file():
        cache.parent.mkdir(parents=True, exist_ok=True)
        with replacing(cache) as partial:
            found = _write_array(partial, open_clips(folder, split), Path(folder).name)
        # Written last: its presence says that the set is whole.
        labels.write_text(json.dumps(found))
        for old in cache.parent.glob(f"{split}-*"):
            if old.stem != cache.stem:
                old.unlink()
    found = json.loads(labels.read_text())
    # Copy on write: PyTorch wants arrays it could write to.
    return ClipSet(np.load(cache, mmap_mode="c"), found["actions"], found["looks"])


def _fingerprint(folder: Path) -> str:
    """Changes with the names, sizes and times of a folder's shards and videos."""
    files = [path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES | {".tar"}]
    facts = [
        (path.relative_to(folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(files)
    ]
    return hashlib.sha256(json.dumps([str(folder.resolve()), facts]).encode()).hexdigest()[:12]


def _write_array(path: Path, clips: Iterator[ClipRecord], name: str) -> dict[str, list[str]]:
    """One .npy of all frames, written as they come: they may not fit into memory; the labels."""
    shape: tuple[int, ...] = (CLIP_FRAMES, CLIP_SIDE, CLIP_SIDE, 3)
    header: dict[str, Any] = {"descr": "|u1", "fortran_order": False}
    actions: list[str] = []
    looks: list[str] = []
    with path.open("wb") as file:
        # The header is padded, so it keeps its length when the count is known.
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (10**9, *shape)})
        body = file.tell()
        for record in tqdm(clips, desc="decoding", unit="clip"):
            file.write(record.frames_THWC.tobytes())
            actions.append(record.action)
            looks.append(record.look)
        if not actions:
            raise MediaError(f"{name} has no clip that can be read.")
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (len(actions), *shape)})
        assert file.tell() == body
    return {"actions": actions, "looks": looks}
