"""Clips of camera moves over still pictures, made on the fly: eight more named actions.

The names say what the CAMERA does, so the picture goes the other way: in `pan-left` the camera
moves left and the things in the picture move right; in `turn-left` the camera rolls anticlockwise
and the picture turns clockwise. Every clip starts upright. Shape letters: T H W frames, C colour.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import cv2
import numpy as np

from nbp_core.config.shapes import CLIP_FRAMES, CLIP_SIDE
from nbp_core.data.ahead import in_threads
from nbp_core.data.sources import PICTURE_SUFFIXES, report_skipped
from nbp_core.media.files import Frames, MediaError, printable_name
from nbp_core.media.pictures import read_image

CAMERA_MOVES = (
    "pan-left", "pan-right", "pan-up", "pan-down", "zoom-in", "zoom-out", "turn-left", "turn-right",
)  # fmt: skip

PHOTO_LOOK = "photo"
"""The look of camera moves over photographs."""

# Travel over the whole clip at pace 1. A pan then moves by one token per latent frame (8 pixels in
# 4 frames), so its tokens are those of the frame before, moved by one place. A model can copy them.
PAN_TRAVEL = 0.25
"""Distance of a whole pan, in sides of the view."""
ZOOM_RATIO = 1.3
"""Side of the largest view of a zoom, relative to the smallest."""
TURN_DEGREES = 15.0
MAX_PACE = 3.0
"""Fastest pace for tokenizers, as a multiple of the travel above."""
VIEW_SHARE = (0.4, 1.0)
"""Side of the view, relative to the largest for which the move stays within the picture."""

_PICTURE_SIDE = 384
_OVERSAMPLING = 2
_log = logging.getLogger(__name__)
_DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True, slots=True)
class View:
    """A square cut of the picture: centre and side in its pixels, roll in radians, clockwise."""

    x: float
    y: float
    side: float
    roll: float = 0.0


def camera_move(
    picture_HWC: Frames, move: str, rng: np.random.Generator, pace: float = 1.0
) -> Frames:
    """frames_THWC of one move at a random place, entirely within the picture.

    Raises ValueError for a move that is not in CAMERA_MOVES.
    """
    if move not in CAMERA_MOVES:
        raise ValueError(f"camera move {move!r} is not one of {', '.join(CAMERA_MOVES)}")
    height, width = picture_HWC.shape[:2]
    return shoot_views(picture_HWC, _plan(move, width, height, rng, pace))


def pan_direction(way: str) -> tuple[int, int]:
    """(x to the right, y down) of a pan "left", "right", "up" or "down"."""
    return _DIRECTIONS[way]


def shoot_views(picture_HWC: Frames, views: Sequence[View]) -> Frames:
    """frames_THWC of these views of a picture, with sides of CLIP_SIDE."""
    height, width = picture_HWC.shape[:2]
    # Shrunk by area to about one pixel a sample, as warpAffine looks at a few pixels only.
    shrink = min(view.side for view in views) / CLIP_SIDE
    if shrink > 1:
        size = (max(1, round(width / shrink)), max(1, round(height / shrink)))
        picture_HWC = cast(Frames, cv2.resize(picture_HWC, size, interpolation=cv2.INTER_AREA))
    scale_x, scale_y = picture_HWC.shape[1] / width, picture_HWC.shape[0] / height
    return np.stack([_shoot(picture_HWC, view, scale_x, scale_y) for view in views])


def _plan(move: str, width: int, height: int, rng: np.random.Generator, pace: float) -> list[View]:
    """The view of each frame, at even speed from the first to the last."""
    kind, way = move.split("-")
    share = rng.uniform(*VIEW_SHARE)
    progress = np.linspace(0, 1, CLIP_FRAMES).tolist()
    if kind == "pan":
        dx, dy = pan_direction(way)
        travel = pace * PAN_TRAVEL
        side = share * min(width / (1 + travel * abs(dx)), height / (1 + travel * abs(dy)))
        x, y = _place(
            width, height, side * (1 + travel * abs(dx)), side * (1 + travel * abs(dy)), rng
        )
        return [
            View(x + dx * travel * side * (p - 0.5), y + dy * travel * side * (p - 0.5), side)
            for p in progress
        ]
    if kind == "zoom":
        ratio = ZOOM_RATIO**pace
        side = share * min(width, height)
        x, y = _place(width, height, side, side, rng)
        # A zoom looks even when each frame is the same ratio to the one before.
        return [View(x, y, side * ratio ** -(p if way == "in" else 1 - p)) for p in progress]
    roll = math.radians(pace * TURN_DEGREES)
    reach = math.cos(roll) + math.sin(roll)
    side = share * min(width, height) / reach
    x, y = _place(width, height, side * reach, side * reach, rng)
    sign = -1 if way == "left" else 1
    return [View(x, y, side, sign * roll * p) for p in progress]


def _place(
    width: int, height: int, room_x: float, room_y: float, rng: np.random.Generator
) -> tuple[float, float]:
    """A random centre of a rectangle of room_x by room_y within the picture."""
    x = room_x / 2 + rng.random() * (width - room_x)
    y = room_y / 2 + rng.random() * (height - room_y)
    return x, y


def _shoot(picture_HWC: Frames, view: View, scale_x: float, scale_y: float) -> Frames:
    samples = CLIP_SIDE * _OVERSAMPLING
    step = view.side / samples
    cos, sin = math.cos(view.roll) * step, math.sin(view.roll) * step
    middle = (samples - 1) / 2
    # From a sample to the picture, (0, 0) being the corner of the first pixel, not its centre.
    matrix = np.array(
        [
            [cos, -sin, view.x - (cos - sin) * middle],
            [sin, cos, view.y - (sin + cos) * middle],
        ]
    )
    matrix *= [[scale_x], [scale_y]]
    matrix[:, 2] -= 0.5
    sampled_HWC = cv2.warpAffine(
        picture_HWC,
        matrix,
        (samples, samples),
        flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return cast(
        Frames, cv2.resize(sampled_HWC, (CLIP_SIDE, CLIP_SIDE), interpolation=cv2.INTER_AREA)
    )


def ordered_actions(names: Iterable[str]) -> tuple[str, ...]:
    """The different names of actions in order, camera moves last."""
    found = set(names)
    return (*sorted(found - set(CAMERA_MOVES)), *(m for m in CAMERA_MOVES if m in found))


def num_validation_moves(num_train: int) -> int:
    """Number of validation clips for a number of training clips: one in fifty, but at least one of
    each move in training."""
    return max(min(num_train, len(CAMERA_MOVES)), num_train // 50)


class PhotoClips:
    """Draws clips of random camera moves over the pictures of a folder, kept small in memory.

    max_pace: paces are drawn from 1 to this. A transformer learns pace 1 only, since neither the
    action's name nor the first frame contains the pace; a tokenizer is trained on all paces.
    Pictures that cannot be read are logged and left out. Raises MediaError when none is left.
    """

    def __init__(self, folder: str | Path, seed: int = 0, max_pace: float = 1.0) -> None:
        folder = Path(folder)
        self.pictures = _read_pictures(folder)
        self.seed = seed
        self.max_pace = max_pace

    def __len__(self) -> int:
        return len(self.pictures)

    def render(self, count: int) -> Frames:
        """frames_NTHWC of `count` clips, as draw_many gives them."""
        return np.stack([frames for frames, _ in self.draw_many(count)])

    def draw_many(self, count: int) -> Iterator[tuple[Frames, str]]:
        """Yields `count` pairs (frames_THWC, name of the move), the same in every call.

        The moves take turns, so all are equally frequent. A larger count only adds clips at the
        end. All cores draw.
        """

        def draw(index: int) -> tuple[Frames, str]:
            rng = np.random.default_rng([self.seed, index])
            move = CAMERA_MOVES[index % len(CAMERA_MOVES)]
            picture_HWC = self.draw_picture(rng)
            pace = rng.uniform(1, self.max_pace)
            return camera_move(picture_HWC, move, rng, pace), move

        return in_threads(draw, range(count))

    def draw_picture(self, rng: np.random.Generator) -> Frames:
        """A random picture, randomly mirrored, transposed or recoloured."""
        return _varied(self.pictures[rng.integers(len(self.pictures))], rng)


def _read_pictures(folder: Path) -> list[Frames]:
    found = sorted(folder.rglob("*"))
    paths = [path for path in found if path.suffix.lower() in PICTURE_SUFFIXES]
    others = [p for p in found if p.suffix.lower() not in PICTURE_SUFFIXES and p.is_file()]
    name = printable_name(folder)
    report_skipped(others, name, "they have no suffix of a picture that can be read")
    pictures = []
    for path in paths:
        try:
            pictures.append(_shrink(read_image(path)))
        except MediaError as error:
            _log.warning("a picture left out: %s", error)
    if not pictures:
        raise MediaError(f"{name} has no picture that can be read (JPEG, PNG, WebP).")
    if len(pictures) < len(paths):
        _log.warning(
            "%d of the %d pictures of %s left out", len(paths) - len(pictures), len(paths), name
        )
    return pictures


def _varied(picture_HWC: Frames, rng: np.random.Generator) -> Frames:
    """The picture, randomly mirrored, transposed or recoloured, to make more of few pictures."""
    if rng.random() < 0.5:
        picture_HWC = picture_HWC[:, ::-1]
    if rng.random() < 0.25:
        picture_HWC = picture_HWC.swapaxes(0, 1)
    if rng.random() < 0.5:
        picture_HWC = picture_HWC[..., rng.permutation(3)]
    return np.ascontiguousarray(picture_HWC)


def _shrink(picture_HWC: Frames) -> Frames:
    height, width = picture_HWC.shape[:2]
    scale = _PICTURE_SIDE / min(height, width)
    if scale >= 1:
        return picture_HWC
    size = (round(width * scale), round(height * scale))
    return cast(Frames, cv2.resize(picture_HWC, size, interpolation=cv2.INTER_AREA))
