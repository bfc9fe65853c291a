"""Where a play can start: recorded scenes of the arm, places, photographs, recordings.

Bundled ones lie in the folder of assets: episodes of the simulator in `play`, places in
`play/places`, photographs at the top. Shapes: T H W frames, C colour.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections import Counter, OrderedDict
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal, cast

from app.clips.form import MIDDLE
from app.parts.pictures import jpeg_uri
from app.parts.uploads import friendly_name
from nbp_core.data.keys import KeyClip
from nbp_core.data.recorded import read_recorded, recorded_episodes
from nbp_core.generation.recording import PlayRecording, World
from nbp_core.media.files import Frames, MediaError
from nbp_core.media.pictures import read_image
from nbp_core.media.video import crop_resize

Kind = Literal["scene", "place", "photograph", "recording"]
MAX_OWN = 64
"""Photographs and recordings of visitors that are kept; who has the most loses the oldest. A
photograph takes 50 kB, a recording is read from at most 4 MB."""
NEW_SCENE = "scene-new"
"""The start whose first frame the model itself makes."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """A first frame and the world that it shows."""

    id: str
    kind: Kind
    title: str
    world: World
    path: Path | None = None
    """A picture, or the label of an episode."""
    own_HWC: Frames | None = None
    """A visitor's photograph."""
    recording: PlayRecording | None = None
    model: str = ""
    """The model that was played; empty where a file was uploaded."""
    owner: str = ""
    """Whose it is: a session of the page, or a player."""

    @property
    def shown_path(self) -> Path | None:
        """A picture or a clip of it."""
        return self.path.with_suffix(".mp4") if self.path and self.has_episode else self.path

    @property
    def has_episode(self) -> bool:
        """Whether the simulator's own frames are there."""
        return self.kind == "scene" and self.path is not None

    def first_frame(self) -> Frames | None:
        """The first frame (H, W, C); None where the model makes it. Raises MediaError for a file
        that cannot be read."""
        if self.path is None:
            return self.own_HWC
        frames_THWC = (
            self.episode().frames_THWC
            if self.has_episode
            else crop_resize(read_image(self.path)[None])
        )
        return cast(Frames, frames_THWC[0])

    def picture_uri(self) -> str:
        """The first frame as a data address; empty where a model makes it or its file cannot be
        read."""
        if self.recording is not None:
            return ""
        try:
            frame_HWC = self.first_frame()
        except MediaError as error:
            _log.warning("the start %r has no picture: %s", self.title, error)
            return ""
        return "" if frame_HWC is None else jpeg_uri(frame_HWC)

    def episode(self) -> KeyClip:
        """The simulator's frames for recorded keys. Raises ValueError for a start without."""
        if self.path is None or not self.has_episode:
            raise ValueError(f"There are no simulator frames for {self.title}.")
        return read_once(self.path)


read_once = cache(read_recorded)


class Starts:
    """The bundled starts, and the latest of visitors under names that nobody can guess."""

    def __init__(self, assets: Path | None) -> None:
        found = [] if assets is None else [*_scenes(assets), *_places(assets), *_photos(assets)]
        scene = Start(id=NEW_SCENE, kind="scene", title="a new scene", world="arm")
        self.bundled = {start.id: start for start in [*found, scene]}
        self._own: OrderedDict[str, Start] = OrderedDict()
        self._lock = threading.Lock()

    def of_kind(self, kind: Kind) -> list[Start]:
        """The bundled starts of a kind that have a picture, in order."""
        return [s for s in self.bundled.values() if s.kind == kind and s.path is not None]

    @property
    def first(self) -> Start:
        """The start that the page offers first."""
        return next(iter(self.bundled.values()))

    def get(self, start_id: str) -> Start:
        """Raises ValueError for one that is not there, or no longer."""
        if start_id in self.bundled:
            return self.bundled[start_id]
        with self._lock:
            if start_id not in self._own:
                raise ValueError("This start was removed. Choose it again.")
            self._own.move_to_end(start_id)
            return self._own[start_id]

    def add_photograph(self, path: str | Path, crop: float = MIDDLE, owner: str = "") -> Start:
        """A visitor's picture, cut square at a place from 0 (left or top) to 1.

        Raises MediaError for a file that is none.
        """
        frame_HWC = crop_resize(read_image(path)[None], at=min(max(crop, 0), 1))[0]
        start = Start(
            id=_new_id(), kind="photograph", title="your photograph", world="camera",
            own_HWC=frame_HWC, owner=owner,
        )  # fmt: skip
        return self._keep(start)

    def add_recording(self, recording: PlayRecording, model: str = "", owner: str = "") -> Start:
        """A play to be seen again."""
        place = recording.shown_start
        title = f"a recording from {place}" if place else "a recording"
        start = Start(
            id=_new_id(), kind="recording", title=title, world=recording.world,
            recording=recording, model=model, owner=owner,
        )  # fmt: skip
        return self._keep(start)

    def _keep(self, start: Start) -> Start:
        with self._lock:
            self._own[start.id] = start
            if len(self._own) > MAX_OWN:
                counts = Counter(other.owner for other in self._own.values())
                most = max(counts.values())
                del self._own[next(id_ for id_, s in self._own.items() if counts[s.owner] == most)]
        return start


def _new_id() -> str:
    """An id that no other visitor can guess."""
    return f"own-{secrets.token_urlsafe(12)}"


def _scenes(assets: Path) -> list[Start]:
    folder = assets / "play"
    return _named("scene", [folder / f"{name}.json" for name in recorded_episodes(folder)], "arm")


def _places(assets: Path) -> list[Start]:
    # Two sources name their places alike: city-blender.jpg and city-pmndrs.jpg are "city" and
    # "city 2".
    found = _named("place", sorted((assets / "play" / "places").glob("*.jpg")), "camera")
    titles = [start.title.rpartition(" ")[0] or start.title for start in found]
    numbers = [titles[: i + 1].count(title) for i, title in enumerate(titles)]
    return [
        replace(start, title=title if number == 1 else f"{title} {number}")
        for start, title, number in zip(found, titles, numbers, strict=True)
    ]


def _photos(assets: Path) -> list[Start]:
    return _named("photograph", sorted(assets.glob("*.jpg")), "camera")


def _named(kind: Kind, paths: list[Path], world: World) -> list[Start]:
    return [
        Start(
            id=f"{kind}-{path.stem}", kind=kind, title=friendly_name(path), world=world,
            path=path,
        )
        for path in paths
    ]  # fmt: skip
