"""Clips of a camera moved by keys over still pictures, made on the fly: photographs and panoramas.

A key is a camera move of camera_moves.py or `still`, held for a latent frame: frame 0 is the start,
key k moves frames 4k + 1 to 4k + 4. Over a photograph the camera pans, zooms and turns and never
shows what is off the picture; in a panorama it looks left and right without an end, and up and down
a little. All moves have camera_moves.py's pace: a pan moves by one token per latent frame.
Shapes: T H W frames, C colour.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from nbp_core.config.shapes import CLIP_FRAMES, CLIP_SIDE
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
from nbp_core.media.video import read_image

STILL = "still"
PANORAMA_LOOK = "panorama"
CAMERA_KEYS = (STILL, *CAMERA_MOVES)
LOOK_KEYS = (STILL, "pan-left", "pan-right", "pan-up", "pan-down")
VIEW_SHARE = (0.35, 0.8)
"""Side of the first view over the picture's shorter side."""
SMALLEST_SHARE, LARGEST_ROLL = 0.25, math.radians(45)
PANORAMA_SIZE = (256, 512)
"""Height and width, pixels; a view is CLIP_SIDE of them."""
MOST_UP = 40
"""Pixels that a view of a panorama may be above or below its middle."""
_STEP = 1 / (CLIP_FRAMES - 1)
"""Share of a camera move's whole way that a frame goes."""
_log = logging.getLogger(__name__)


class KeyedClips(Protocol):
    """A source of such clips."""

    def draw(self, num_keys: int, rng: np.random.Generator) -> KeyClip: ...


def draw_many(source: KeyedClips, count: int, num_keys: int, seed: int) -> Iterator[KeyClip]:
    """So many clips, always the same ones, drawn by all cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        seeds = [[seed, index] for index in range(count)]
        yield from pool.map(lambda s: source.draw(num_keys, np.random.default_rng(s)), seeds)


def moved(view: View, key: str) -> View:
    """The view a frame later, under a key."""
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
    """Whether a view lies wholly on a picture, is not too small and not turned too far."""
    reach = view.side / 2 * (abs(math.cos(view.roll)) + abs(math.sin(view.roll)))
    is_on = reach <= view.x <= width - reach and reach <= view.y <= height - reach
    is_large = view.side >= SMALLEST_SHARE * min(width, height)
    return is_on and is_large and abs(view.roll) <= LARGEST_ROLL


class PhotoKeys:
    """Draws clips of keys over the photographs of a folder.

    Raises MediaError when the folder has no picture or one that cannot be read.
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
        frames = shoot_views(picture_HWC, views, CLIP_SIDE)
        return KeyClip(frames_THWC=frames, keys=tuple(keys), look=PHOTO_LOOK)


def _last(view: View, key: str) -> View:
    """The view at the end of a latent frame."""
    for _ in range(FRAMES_PER_KEY):
        view = moved(view, key)
    return view


class PanoramaKeys:
    """Draws clips of looking round in the panoramas (equirectangular, 2 : 1) of a folder.

    Pictures that cannot be read or are no panoramas are logged and left out. Raises MediaError
    when none is left.
    """

    def __init__(self, folder: str | Path) -> None:
        read = _read_panoramas(Path(folder))
        self.names = tuple(name for name, _ in read)
        self._pictures = [picture_HWC for _, picture_HWC in read]

    def draw(self, num_keys: int, rng: np.random.Generator) -> KeyClip:
        """A clip of random keys from a random place; half of them are mirrored."""
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


def _read_panoramas(folder: Path) -> list[tuple[str, Frames]]:
    """The names, without suffixes, and the pictures of a folder's panoramas."""
    if not folder.is_dir():
        raise MediaError(f"there is no folder {printable_name(folder)!r}.")
    found = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES):
        try:
            found.append((path.stem, read_panorama(path)))
        except MediaError as error:
            _log.warning("a panorama left out: %s", error)
    if not found:
        name = printable_name(folder)
        raise MediaError(f"{name} has no panorama of 512 x 256 pixels that can be read.")
    return found


def read_panorama(path: Path) -> Frames:
    """A panorama, H W C of PANORAMA_SIZE. Raises MediaError for a picture of another size."""
    picture_HWC = read_image(path)
    if picture_HWC.shape[:2] != PANORAMA_SIZE:
        raise MediaError(f"{shown_name(path)} is not a panorama of 512 x 256 pixels.")
    return picture_HWC


def looked(place: tuple[int, int], key: str) -> tuple[int, int]:
    """Where one looks a frame later: columns to the right, rows below the middle."""
    dx, dy = (0, 0) if key == STILL else pan_direction(key.split("-")[1])
    step = round(PAN_TRAVEL * _STEP * CLIP_SIDE)
    return place[0] + step * dx, place[1] + step * dy


def can_look(place: tuple[int, int], key: str) -> bool:
    """Whether a whole latent frame of a key stays between MOST_UP above and below the middle."""
    for _ in range(FRAMES_PER_KEY):
        place = looked(place, key)
    return key in (STILL, "pan-left", "pan-right") or abs(place[1]) <= MOST_UP


def look(picture_HWC: Frames, x: int, y: int) -> Frames:
    """frame_HWC of CLIP_SIDE: columns from x on, wrapping round, rows around y below the middle."""
    height, width = picture_HWC.shape[:2]
    top = (height - CLIP_SIDE) // 2 + y
    columns = np.arange(x, x + CLIP_SIDE) % width
    return np.ascontiguousarray(picture_HWC[top : top + CLIP_SIDE, columns])
