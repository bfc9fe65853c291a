"""Sources of clips for training: tar shards as `data metaworld` writes them, or a folder of videos.

A folder of shards holds train-*.tar and val-*.tar (WebDataset's layout: KEY.mp4 beside KEY.json with
its action and look). A folder of videos holds one sub-folder for each action. Both give ClipRecords.
Shape letters: N clips, T H W frames, C colour; all frames are uint8 RGB. Knows nothing of torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nbp_core.config import CLIP_FRAMES, CLIP_SIDE
from nbp_core.media_files import Frames

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


@dataclass(frozen=True)
class _Entry:
    """A clip that is not decoded yet."""

    key: str
    action: str
    look: str
    decode: Callable[[], Frames]


def open_clips(
    folder: str | Path, split: Split, num_frames: int = CLIP_FRAMES, side: int = CLIP_SIDE
) -> Iterator[ClipRecord]:
    """The clips of a folder of shards or of videos, whichever it is.

    Raises MediaError when it is neither. Clips that cannot be read are logged and left out.
    """
    return _decoded(_entries(Path(folder), split, num_frames), num_frames, side)


def iter_shards(source: str | Path | Iterable[Path], split: Split) -> Iterator[ClipRecord]:
    """The clips of a folder's {split}-*.tar in order of their names, or of the tars given."""
    return _decoded(_shard_entries(_shards(source, split)), CLIP_FRAMES, CLIP_SIDE)


def iter_video_folder(
    folder: str | Path, split: Split, num_frames: int = CLIP_FRAMES, side: int = CLIP_SIDE
) -> Iterator[ClipRecord]:
    """The videos of a folder's sub-folders, each named as its action.

    A clip is `num_frames` evenly spaced frames of the middle WINDOW_SECONDS (of the whole, when it
    is shorter), cut to the middle square. About VAL_SHARE of the files are for validation, told by
    a hash of their path in the folder, so that adding files moves none from one split to the other.
    """
    return _decoded(_video_entries(Path(folder), split, num_frames), num_frames, side)


def load_frames(
    folder: str | Path,
    split: Split,
    cache_folder: str | Path,
    limit_per_action: int | None = None,
) -> tuple[Frames, list[str]]:
    """(frames_NTHWC, the action of each) of a folder of clips, decoded once into `cache_folder`.

    The array is memory-mapped, read-only. Raises MediaError when no clip can be read.
    """
    entries = list(_limited(_entries(Path(folder), split, CLIP_FRAMES), limit_per_action))
    cache_folder = Path(cache_folder)
    cache_folder.mkdir(parents=True, exist_ok=True)
    cache = cache_folder / f"{split}-{_fingerprint(Path(folder), limit_per_action)}.npy"
    labels = cache.with_suffix(".json")
    if not cache.is_file():
        actions = _fill(cache, labels, entries)
