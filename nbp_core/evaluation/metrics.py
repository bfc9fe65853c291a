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
"""Clips as rows: see `small`."""

STILL_LEVELS = 6
"""A pixel that stays within this of its first value does not move: video coding alone does more."""
MOSTLY = 0.9
"""A place is still in an action if it is in this share of the action's real clips."""
_SMALL_SIDE = 32
_SMALL_STEP = 4
_CHUNK = 64


def still_places(frames_THWC: Frames) -> Mask:
    """(H, W), where a clip does not move."""
    change = np.abs(frames_THWC.astype(np.int16) - frames_THWC[:1].astype(np.int16))
    return np.asarray(change.max((0, 3)) <= STILL_LEVELS)


def mostly_still_places(frames_NTHWC: Frames) -> Mask:
    """(H, W), where at least MOSTLY of the clips do not move."""
    share = np.mean([still_places(frames) for frames in frames_NTHWC], axis=0)
    return np.asarray(share >= MOSTLY)


def flicker(frames_THWC: Frames, still_HW: Mask) -> float:
    """Mean change from a frame to the next over the still places; NaN when there are none."""
    if not still_HW.any():
        return float("nan")
    pixels = frames_THWC[:, still_HW].astype(np.float32)
    return float(np.abs(np.diff(pixels, axis=0)).mean())


def still_tokens(still_HW: Mask, side: int) -> Mask:
    """(h, w), the tokens under which every pixel is still; `side` pixels a token."""
    height, width = still_HW.shape
    cut = still_HW.reshape(height // side, side, width // side, side)
    return np.asarray(cut.all((1, 3)))


def token_change_rate(tokens_thw: Tokens, places_hw: Mask | None = None) -> float:
    """Share of tokens that differ from those of the latent frame before, at some places or all.

    NaN when there are no such places.
    """
    changed = tokens_thw[1:] != tokens_thw[:-1]
    if places_hw is not None:
        changed = changed[:, places_hw]
    return float(changed.mean()) if changed.size else float("nan")


def small(frames_NTHWC: Frames) -> Small:
    """Clips as (N, features): every fourth frame, shrunk to 32 x 32. Their Euclidean distances,
    as root mean squares, are what clips are compared by."""
    size = (_SMALL_SIDE, _SMALL_SIDE)
    rows = [
        np.stack([cv2.resize(f, size, interpolation=cv2.INTER_AREA) for f in clip[::_SMALL_STEP]])
        for clip in frames_NTHWC
    ]
    return np.stack(rows).reshape(len(rows), -1).astype(np.float32)


def nearest_distance(clips_ND: Small, others_MD: Small) -> NDArray[np.float64]:
    """(N,) root mean square difference of each small clip to the nearest other."""
    least = [_distances(clips_ND, part).min(1) for part in _chunks(others_MD)]
    nearest: NDArray[np.float64] = np.min(least, axis=0)
    return nearest


def diversity(clips_ND: Small, groups: list[str]) -> float:
    """Mean root mean square difference of two small clips of one group (of one action, say).

    NaN when no group has two.
    """
    labels = np.array(groups)
    pairs = []
    for name in sorted(set(groups)):
        rows = clips_ND[labels == name]
        upper = np.triu_indices(len(rows), 1)
        pairs.append(_distances(rows, rows)[upper])
    found = np.concatenate(pairs) if pairs else np.zeros(0)
    return float(found.mean()) if found.size else float("nan")


def _chunks(rows_MD: Small) -> list[Small]:
    return [rows_MD[start : start + _CHUNK] for start in range(0, len(rows_MD), _CHUNK)]


def _distances(first_ND: Small, second_MD: Small) -> NDArray[np.float64]:
    """(N, M), never negative; double precision, since near ones are what matters."""
    a, b = first_ND.astype(np.float64), second_MD.astype(np.float64)
    squared = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    distances: NDArray[np.float64] = np.sqrt(squared.clip(0) / a.shape[1])
    return distances
