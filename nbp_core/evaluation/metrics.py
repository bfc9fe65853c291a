"""Figures of clips that need no network: flicker, token changes, nearest clip, diversity. Numpy.

Shapes: N clips, M others, T H W pixels of uint8 RGB frames, t h w tokens. Changes and distances are
in grey levels of 8-bit pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from nbp_core.media.files import Frames

Mask = NDArray[np.bool_]
Tokens = NDArray[np.int64]
Small = NDArray[np.float32]
"""Clips as rows of numbers: see `small`."""

STILL_LEVELS = 6
"""A pixel that stays within this of its first value is still: video coding alone changes more."""
MOSTLY = 0.9
"""A place is still for an action if it is still in at least this share of the action's clips."""
_SMALL_SIDE = 32
_SMALL_STEP = 4
_CHUNK = 64


def still_places(frames_THWC: Frames) -> Mask:
    """(H, W) bool: True where a clip does not move."""
    change = np.abs(frames_THWC.astype(np.int16) - frames_THWC[:1].astype(np.int16))
    return np.asarray(change.max((0, 3)) <= STILL_LEVELS)


def mostly_still_places(frames_NTHWC: Frames) -> Mask:
    """(H, W) bool: True where at least a share MOSTLY of the clips does not move."""
    share = np.mean([still_places(frames) for frames in frames_NTHWC], axis=0)
    return np.asarray(share >= MOSTLY)


def flicker(frames_THWC: Frames, still_HW: Mask) -> float:
    """Mean change from one frame to the next over still places, in grey levels; NaN without any."""
    if not still_HW.any():
        return float("nan")
    pixels = frames_THWC[:, still_HW].astype(np.float32)
    return float(np.abs(np.diff(pixels, axis=0)).mean())


def still_tokens(still_HW: Mask, side: int) -> Mask:
    """(h, w) bool: True for tokens whose pixels are all still. side: of a token, in pixels."""
    height, width = still_HW.shape
    cut = still_HW.reshape(height // side, side, width // side, side)
    return np.asarray(cut.all((1, 3)))


def token_change_rate(tokens_thw: Tokens, places_hw: Mask | None = None) -> float:
    """Share of tokens that differ from the token at the same place one latent frame before.

    places_hw: the places to count; default: all. NaN if there are none.
    """
    changed = tokens_thw[1:] != tokens_thw[:-1]
    if places_hw is not None:
        changed = changed[:, places_hw]
    return float(changed.mean()) if changed.size else float("nan")


def small(frames_NTHWC: Frames) -> Small:
    """Clips as rows (N, D) float32: the pixels of every fourth frame, reduced to 32 x 32.

    Root mean square differences of these rows measure how different two clips are.
    """
    size = (_SMALL_SIDE, _SMALL_SIDE)
    rows = [
        np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in clip[::_SMALL_STEP]])
        for clip in frames_NTHWC
    ]
    return np.stack(rows).reshape(len(rows), -1).astype(np.float32)


def nearest_distance(clips_ND: Small, others_MD: Small) -> NDArray[np.float64]:
    """(N,) root mean square difference (grey levels) of each small clip from the nearest other."""
    starts = range(0, len(others_MD), _CHUNK)
    least = [_distances(clips_ND, others_MD[at : at + _CHUNK]).min(1) for at in starts]
    nearest: NDArray[np.float64] = np.min(least, axis=0)
    return nearest


def diversity(clips_ND: Small, groups: list[str]) -> float:
    """Mean over all pairs within groups (such as actions) of their root mean square difference.

    It is in grey levels; NaN if no group has two clips.
    """
    labels = np.array(groups)
    pairs = []
    for name in sorted(set(groups)):
        rows = clips_ND[labels == name]
        upper = np.triu_indices(len(rows), 1)
        pairs.append(_distances(rows, rows)[upper])
    found = np.concatenate(pairs) if pairs else np.zeros(0)
    return float(found.mean()) if found.size else float("nan")


def _distances(first_ND: Small, second_MD: Small) -> NDArray[np.float64]:
    """(N, M) root mean square differences, in double precision for the sake of small ones."""
    a, b = first_ND.astype(np.float64), second_MD.astype(np.float64)
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    distances: NDArray[np.float64] = np.sqrt(squared.clip(0) / a.shape[1])
    return distances
