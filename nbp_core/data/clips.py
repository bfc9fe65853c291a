"""Sources of clips for training: tar shards as `data metaworld` writes them, or folders of videos.

A folder of shards has train-*.tar and val-*.tar (in WebDataset's layout: KEY.mp4, and KEY.json with
its action and look). A folder of videos has one sub-folder per action. Both give ClipRecords.
Shapes: N clips, T H W frames, C colour; all frames are uint8 RGB. Knows nothing of torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby, islice
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
from tqdm import tqdm

from nbp_core.config.json import read_json
from nbp_core.config.shapes import CLIP_FRAMES, CLIP_SIDE
from nbp_core.data.ahead import in_threads
from nbp_core.data.sources import (
    UNKNOWN_MEMBER,
    VIDEO_SUFFIXES,
    folder_fingerprint,
    open_shard,
    read_member,
    report_skipped,
    unknown_members,
)
from nbp_core.media.files import (
    Frames,
    MediaError,
    is_video,
    printable_name,
    replacing,
    write_text,
)
from nbp_core.media.video import crop_resize, read_window, read_windows

Split = Literal["train", "val"]
SPLITS: tuple[Split, Split] = ("train", "val")
VAL_FIRST: tuple[Split, Split] = ("val", "train")
"""The order in which they are read: if the small one is missing, the other is not read in vain."""

VAL_SHARE = 0.1

BATCHES = {"nt": 16, "posix": 32}
"""Clips per run of ffmpeg by kind of system, since starting a run takes longer than decoding a
clip. The command names all of them, and Windows takes commands of at most 32,767 letters."""
_BATCH = BATCHES[os.name]
_SHORT_BYTES = 2**18
"""Larger files are decoded one per run, since many at once would take too much memory."""
_AHEAD = 4
"""Number of batches or files that are decoded ahead of use."""

_CACHED = re.compile(r"(train|val)-[0-9a-f]{16}\.(npy|json)")
"""Files of decoded clips, as load_clips names them."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClipRecord:
    """One clip, with frames_THWC of CLIP_FRAMES x CLIP_SIDE x CLIP_SIDE pixels, uint8.

    look: how a rendered clip looks ("stock" or "varied"), empty for other clips.
    """

    key: str
    action: str
    frames_THWC: Frames
    look: str = ""


def open_clips(
    folder: str | Path, split: Split | None, limit_per_action: int | None = None
) -> Iterator[ClipRecord]:
    """Yields the clips of a folder of shards or a folder of videos.

    split: None gives the clips of both. limit_per_action: largest number of clips per action. Clips
    that cannot be read are logged and left out. Raises MediaError if the folder is neither kind, if
    no clip of the split can be read, and for an action with a single video that has to be split.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MediaError(f"there is no folder {folder.name!r} with clips.")
    num_clips = 0
    for record in _records(folder, split, limit_per_action):
        num_clips += 1
        yield record
    if num_clips == 0:
        kind = {"train": "training clip", "val": "validation clip", None: "clip"}[split]
        raise MediaError(f"{printable_name(folder)} has no {kind} that can be read.")


def _records(
    folder: Path, split: Split | None, limit_per_action: int | None
) -> Iterator[ClipRecord]:
    splits = SPLITS if split is None else (split,)
    shards = [shard for name in splits for shard in sorted(folder.glob(f"{name}-*.tar"))]
    if shards:
        unknown: list[PurePath] = []
        for shard in shards:
            members = _members(shard)
            unknown += unknown_members(members.values())
            yield from _read_clips(shard, members, limit_per_action)
        report_skipped(unknown, printable_name(folder), UNKNOWN_MEMBER)
        return
    if split != "val":  # once for both splits
        _report_skipped(folder)
    if any(_videos(folder)):
        yield from _read_video_folder(folder, split, limit_per_action)
    else:
        others = [name for name in SPLITS if any(folder.glob(f"{name}-*.tar"))]
        if others:
            raise MediaError(f"{folder.name} has {others[0]}-*.tar shards, but no {split}-*.tar.")
        raise MediaError(
            f"{folder.name} has neither train-*.tar shards nor sub-folders with videos."
        )


def _read_clips(
    path: Path, members: dict[str, tarfile.TarInfo], limit: int | None
) -> Iterator[ClipRecord]:
    names = [name for name in members if name.endswith(".mp4")][:limit]
    with open_shard(path, "clips") as tar:
        files = []
        for name in names:
            label = members.get(f"{name.removesuffix('.mp4')}.json")
            files.append((name, read_member(tar, members[name]), read_member(tar, label)))
    batches = [files[start : start + _BATCH] for start in range(0, len(files), _BATCH)]
    num_read = 0
    for records in in_threads(lambda batch: _decoded(path.name, batch), batches, _AHEAD):
        num_read += len(records)
        yield from records
    _report_left_out(len(files) - num_read, len(files), path.name)


def _decoded(shard: str, files: list[tuple[str, bytes, bytes]]) -> list[ClipRecord]:
    """The readable clips among (name, video, label) of a shard; others are logged."""
    records = []
    with tempfile.TemporaryDirectory(prefix="nbp-", ignore_cleanup_errors=True) as folder:
        # Errors name the file, so it keeps the letters and digits of its name.
        paths = [
            Path(folder, f"{index}-{re.sub(r'[^A-Za-z0-9.-]', '_', name)[-80:]}")
            for index, (name, _, _) in enumerate(files)
        ]
        for path, (_, video, _) in zip(paths, files, strict=True):
            path.write_bytes(video)
        for (name, _, label_json), frames in zip(
            files, read_windows(paths, CLIP_FRAMES), strict=True
        ):
            try:
                if isinstance(frames, MediaError):
                    raise frames
                label = json.loads(label_json)
                action, look = str(label["action"]), str(label.get("look", ""))
                f"{action}{look}".encode()  # JSON also has texts that are not valid Unicode
            except (KeyError, TypeError, ValueError, RecursionError) as error:
                why = error if isinstance(error, MediaError) else "its label is wrong or missing"
                _log.warning("%s of %s left out: %s", name, shard, why)
                continue
            key = name.removesuffix(".mp4")
            records.append(ClipRecord(key, action, crop_resize(frames, CLIP_SIDE), look))
    return records


def _report_left_out(count: int, total: int, name: str) -> None:
    if count:
        _log.warning("%d of the %d clips of %s left out", count, total, name)


def _members(path: Path) -> dict[str, tarfile.TarInfo]:
    with open_shard(path, "clips") as tar:
        return {member.name: member for member in tar}


def _videos(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*/*")) if path.suffix.lower() in VIDEO_SUFFIXES)


def _report_skipped(folder: Path) -> None:
    """Logs one line for files without a video suffix, and one for misplaced videos."""
    taken = set(_videos(folder))
    others = [path for path in sorted(folder.rglob("*")) if path not in taken and path.is_file()]
    where = printable_name(folder)
    misplaced = [path for path in others if path.suffix.lower() in VIDEO_SUFFIXES]
    unknown = [path for path in others if path.suffix.lower() not in VIDEO_SUFFIXES]
    report_skipped(unknown, where, "they have no suffix of a video that can be read")
    report_skipped(misplaced, where, "they do not lie in the sub-folder of an action")


def validation_keys(keys: Iterable[str]) -> set[str]:
    """The videos, named "action/file", of the validation split.

    A hash of the name decides, so that adding files moves few others between the splits. Every
    action is in both splits: of its videos in the order of their hashes, the first is always in
    validation and the last always in training. Raises MediaError for an action with one video.
    """
    by_action: dict[str, dict[str, int]] = {}
    for key in keys:
        rank = int(hashlib.sha256(os.fsencode(key)).hexdigest()[:8], 16)
        by_action.setdefault(key.rpartition("/")[0], {})[key] = rank
    chosen: set[str] = set()
    for action, ranks in by_action.items():
        if len(ranks) == 1:
            raise MediaError(
                f"action {printable_name(Path(action))!r} has a single clip; each action needs two "
                "or more: one to train on and one to validate with."
            )
        *others, last = sorted(ranks, key=ranks.__getitem__)
        chosen.update(key for key in others if ranks[key] < VAL_SHARE * 16**8)
        chosen.add(others[0])
        assert last not in chosen
    return chosen


def _read_video_folder(
    folder: Path, split: Split | None, limit: int | None
) -> Iterator[ClipRecord]:
    """The videos in a folder's sub-folders, which are named after the actions.

    A clip is CLIP_FRAMES frames from the middle of a video at CLIP_FPS (evenly spread over a
    shorter video), cropped to the middle square.
    """
    counts: Counter[str] = Counter()
    paths = {path.relative_to(folder).as_posix(): path for path in _videos(folder)}
    validation = set() if split is None else validation_keys(paths)
    wanted = (
        (key, path)
        for key, path in paths.items()
        if (key in validation) == (split == "val") and counts[path.parent.name] != limit
    )
    num_left_out = 0
    batches = _batches(wanted, min(_BATCH, limit or _BATCH))
    for key, path, frames in chain.from_iterable(in_threads(_read_files, batches, _AHEAD)):
        if isinstance(frames, MediaError):
            _log.warning("a clip of %s left out: %s", printable_name(path.parent), frames)
            num_left_out += 1
        elif counts[path.parent.name] != limit:
            counts[path.parent.name] += 1
            yield ClipRecord(key, printable_name(path.parent), frames)
    _report_left_out(num_left_out, num_left_out + counts.total(), printable_name(folder))


def _batches(files: Iterable[tuple[str, Path]], most: int) -> Iterator[list[tuple[str, Path]]]:
    """Groups of at most `most` short videos of one action; other files alone; all in order."""
    for (_, is_short), group in groupby(files, lambda file: (file[1].parent, _is_short(file[1]))):
        while batch := list(islice(group, most if is_short else 1)):
            yield batch


def _is_short(path: Path) -> bool:
    """Whether the file is a video that is small enough to be decoded together with others."""
    try:
        return path.stat().st_size < _SHORT_BYTES and is_video(path)
    except (OSError, MediaError):  # reported when the file is read
        return False


def _read_files(batch: list[tuple[str, Path]]) -> list[tuple[str, Path, Frames | MediaError]]:
    if len(batch) == 1:
        windows = iter([_read_window(batch[0][1])])
    else:
        windows = read_windows([path for _, path in batch], CLIP_FRAMES)
    return [
        (key, path, found if isinstance(found, MediaError) else crop_resize(found, CLIP_SIDE))
        for (key, path), found in zip(batch, windows, strict=True)
    ]


def _read_window(path: Path) -> Frames | MediaError:
    try:
        return read_window(path, CLIP_FRAMES)
    except MediaError as error:
        return error


@dataclass(frozen=True)
class ClipSet:
    """The decoded clips of a split: frames_NTHWC uint8, and the action and look of each clip."""

    frames_NTHWC: Frames
    actions: list[str]
    looks: list[str]

    def __len__(self) -> int:
        return len(self.actions)


def load_clips(folder: str | Path, split: Split, cache_folder: str | Path) -> ClipSet:
    """All clips of a split, decoded once into `cache_folder` and memory-mapped.

    They are decoded again when the folder's files change. Raises MediaError if no clip can be read.
    """
    cache = Path(cache_folder) / f"{split}-{folder_fingerprint(Path(folder))}.npy"
    labels = cache.with_suffix(".json")
    known = _read_cache(cache, labels)
    if known is not None:
        return known
    cache.parent.mkdir(parents=True, exist_ok=True)
    with replacing(cache) as partial:
        found = _write_array(partial, open_clips(folder, split))
    # Written last, so its presence shows that the set is complete.
    write_text(labels, json.dumps(found))
    for old in cache.parent.glob(f"{split}-*"):
        # The folder may hold other files, even the shards themselves.
        if _CACHED.fullmatch(old.name) and old.stem != cache.stem:
            old.unlink()
    return ClipSet(_mapped(cache), found["actions"], found["looks"])


def _mapped(cache: Path) -> Frames:
    # Copy on write: PyTorch wants arrays it could write to.
    frames_NTHWC: Frames = np.load(cache, mmap_mode="c")
    return frames_NTHWC


def _read_cache(cache: Path, labels: Path) -> ClipSet | None:
    """The decoded clips in a cache, or None if they have to be decoded."""
    if not labels.is_file():
        return None
    try:
        found = read_json(labels)
        actions, looks = ([str(label) for label in found[name]] for name in ("actions", "looks"))
        frames_NTHWC = _mapped(cache)
        if not len(frames_NTHWC) == len(actions) == len(looks):
            raise ValueError(f"{labels.name} has labels of another number of clips")
        return ClipSet(frames_NTHWC, actions, looks)
    except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
        _log.warning("%s cannot be used (%s): the clips are decoded again", labels.name, error)
        return None


def _write_array(path: Path, clips: Iterator[ClipRecord]) -> dict[str, list[str]]:
    """Writes all frames to one .npy as they come, since they may not fit into memory; returns their
    labels."""
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
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, {**header, "shape": (len(actions), *shape)})
        assert file.tell() == body
    return {"actions": actions, "looks": looks}
