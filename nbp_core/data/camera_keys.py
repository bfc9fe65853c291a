"""Clips of a camera moved by keys over photographs and in panoramas, made on the fly.

A key is a camera move of camera_moves.py or `still`, held for a latent frame: frame 0 is the start,
key k moves the camera in frames 4k + 1 to 4k + 4. Over a photograph the camera pans, zooms and
turns within the picture. In a panorama it looks left and right without end, and a little up and
down. All moves have the pace of camera_moves.py: a pan moves by one token per latent frame.
Shapes: T H W frames, C colour.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from nbp_core.config.shapes import CLIP_FRAMES, CLIP_SIDE
from nbp_core.data.ahead import in_threads
from nbp_core.data.camera_moves import (
    CAMERA_MOVES,
    PAN_TRAVEL,
    PHOTO_LOOK,
    TURN_DEGREES,
    ZOOM_RATIO,
    PhotoClips,
    View,
    pan_direction,
    shoot_views,
)
from nbp_core.data.keys import FRAMES_PER_KEY, HeldKeys, KeyClip
from nbp_core.data.sources import PICTURE_SUFFIXES
from nbp_core.media.files import Frames, MediaError, printable_name, shown_name
from nbp_core.media.pictures import read_image

STILL = "still"
PANORAMA_LOOK = "panorama"
CAMERA_KEYS = (STILL, *CAMERA_MOVES)
LOOK_KEYS = (STILL, "pan-left", "pan-right", "pan-up", "pan-down")
VIEW_SHARE = (0.35, 0.8)
"""Side of the first view, relative to the picture's shorter side."""
SMALLEST_SHARE, LARGEST_ROLL = 0.25, math.radians(45)
PANORAMA_SIZE = (256, 512)
"""Height and width in pixels; a view is CLIP_SIDE x CLIP_SIDE of them."""
MOST_UP = 40
"""Largest distance in pixels of a view above or below the panorama's middle."""
_STEP = 1 / (CLIP_FRAMES - 1)
"""Share of a whole camera move in one frame."""
_log = logging.getLogger(__name__)


class KeyedClips(Protocol):
    """A source of random clips with keys."""

    def draw(self, num_keys: int, rng: np.random.Generator) -> KeyClip: ...


def draw_many(source: KeyedClips, count: int, num_keys: int, seed: int) -> Iterator[KeyClip]:
    """Yields `count` clips of `num_keys` keys. Equal seeds give equal clips; all cores draw."""
    seeds = ([seed, index] for index in range(count))
    return in_threads(lambda s: source.draw(num_keys, np.random.default_rng(s)), seeds)


def moved(view: View, key: str) -> View:
    """The view one frame later while a key is held."""
    if key == STILL:
        return view
    kind, way = key.split("-")
    if kind == "pan":
        dx, dy = pan_direction(way)
        cos, sin = math.cos(view.roll), math.sin(view.roll)
        travel = PAN_TRAVEL * _STEP * view.side
        # Left and right are the camera's own, also when it is turned.
        return replace(
            view,
            x=view.x + travel * (cos * dx - sin * dy),
            y=view.y + travel * (sin * dx + cos * dy),
        )
    if kind == "zoom":
        return replace(view, side=view.side * ZOOM_RATIO ** (-_STEP if way == "in" else _STEP))
    turn = math.radians(TURN_DEGREES) * _STEP
    return replace(view, roll=view.roll + (-turn if way == "left" else turn))


def is_inside(view: View, width: int, height: int) -> bool:
    """Whether a view is entirely within a picture, not too small and not turned too far."""
    reach = view.side / 2 * (abs(math.cos(view.roll)) + abs(math.sin(view.roll)))
    is_on = reach <= view.x <= width - reach and reach <= view.y <= height - reach
    is_large = view.side >= SMALLEST_SHARE * min(width, height)
    return is_on and is_large and abs(view.roll) <= LARGEST_ROLL


class PhotoKeys:
    """Draws clips of keys over the photographs of a folder.

    Pictures that cannot be read are logged and left out. Raises MediaError when none is left.
    """

    def __init__(self, folder: str | Path) -> None:
        self._photos = PhotoClips(folder)

    def draw(self, num_keys: int, rng: np.random.Generator) -> KeyClip:
        """A clip of random keys at a random place of a random picture."""
        picture_HWC = self._photos.draw_picture(rng)
        height, width = picture_HWC.shape[:2]
        side = rng.uniform(*VIEW_SHARE) * min(width, height)
        x, y = (side / 2 + rng.random() * (extent - side) for extent in (width, height))
        held, keys, views = HeldKeys(rng), [], [View(x, y, side)]
        for _ in range(num_keys):
            allowed = [
                key for key in CAMERA_KEYS if is_inside(_last(views[-1], key), width, height)
            ]
            key, _ = held.next(allowed)
            keys.append(key)
            for _ in range(FRAMES_PER_KEY):
                views.append(moved(views[-1], key))
        frames = shoot_views(picture_HWC, views)
        return KeyClip(frames_THWC=frames, keys=tuple(keys), look=PHOTO_LOOK)


def _last(view: View, key: str) -> View:
    """The view at the end of a latent frame."""
    for _ in range(FRAMES_PER_KEY):
        view = moved(view, key)
    return view


class PanoramaKeys:
    """Draws clips of looking around in the panoramas (equirectangular, 2 : 1) of a folder.

    Pictures that cannot be read or have another size are logged and left out. Raises MediaError
    when none is left.
    """

    def __init__(self, folder: str | Path) -> None:
        self._pictures = _read_panoramas(Path(folder))

    def draw(self, num_keys: int, rng: np.random.Generator) -> KeyClip:
        """A clip of random keys from a random direction; half of the clips are mirrored."""
        picture_HWC = self._pictures[rng.integers(len(self._pictures))]
        if rng.random() < 0.5:
            picture_HWC = picture_HWC[:, ::-1]
        x = int(rng.integers(PANORAMA_SIZE[1]))
        y = int(rng.integers(-MOST_UP, MOST_UP + 1))
        held, keys, places = HeldKeys(rng), [], [(x, y)]
        for _ in range(num_keys):
            key, _ = held.next([k for k in LOOK_KEYS if can_look(places[-1], k)])
            keys.append(key)
            for _ in range(FRAMES_PER_KEY):
                places.append(looked(places[-1], key))
        frames = np.stack([look(picture_HWC, *place) for place in places])
        return KeyClip(frames_THWC=frames, keys=tuple(keys), look=PANORAMA_LOOK)


def _read_panoramas(folder: Path) -> list[Frames]:
    if not folder.is_dir():
        raise MediaError(f"there is no folder {printable_name(folder)!r}.")
    found = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES):
        try:
            found.append(read_panorama(path))
        except MediaError as error:
            _log.warning("a panorama left out: %s", error)
    if not found:
        name = printable_name(folder)
        raise MediaError(f"{name} has no panorama of 512 x 256 pixels that can be read.")
    return found


def read_panorama(path: Path) -> Frames:
    """A panorama as picture_HWC of PANORAMA_SIZE. Raises MediaError for another size."""
    picture_HWC = read_image(path)
    if picture_HWC.shape[:2] != PANORAMA_SIZE:
        raise MediaError(f"{shown_name(path)} is not a panorama of 512 x 256 pixels.")
    return picture_HWC


def looked(place: tuple[int, int], key: str) -> tuple[int, int]:
    """The view's place one frame later: columns to the right, rows below the middle."""
    dx, dy = (0, 0) if key == STILL else pan_direction(key.split("-")[1])
    step = round(PAN_TRAVEL * _STEP * CLIP_SIDE)
    return place[0] + step * dx, place[1] + step * dy


def can_look(place: tuple[int, int], key: str) -> bool:
    """Whether the view stays within MOST_UP of the middle for a whole latent frame of a key."""
    for _ in range(FRAMES_PER_KEY):
        place = looked(place, key)
    return key in (STILL, "pan-left", "pan-right") or abs(place[1]) <= MOST_UP


def look(picture_HWC: Frames, x: int, y: int) -> Frames:
    """frame_HWC of side CLIP_SIDE: columns from x on, wrapping around, rows centred y below the
    middle."""
    height, width = picture_HWC.shape[:2]
    top = (height - CLIP_SIDE) // 2 + y
    columns = np.arange(x, x + CLIP_SIDE) % width
    return np.ascontiguousarray(picture_HWC[top : top + CLIP_SIDE, columns])
