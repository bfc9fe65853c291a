"""Streams of clips are computed only a little ahead of use."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nbp_core.cgroup import cores
from nbp_core.config.shapes import CLIP_SIDE
from nbp_core.data.ahead import in_threads
from nbp_core.data.camera_keys import draw_many
from nbp_core.data.camera_moves import PhotoClips
from nbp_core.data.keys import KeyClip

MOST = 2 * cores() + 1
"""One item is used, the others are ahead."""


def test_results_come_in_order_and_few_ahead() -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.01 if item % 2 else 0)
        return 10 * item

    results = in_threads(work, range(20), ahead=3)
    for index, result in enumerate(results):
        assert result == 10 * index
        assert len(begun) <= index + 4
    assert sorted(begun) == list(range(20))


class Counted(PhotoClips):
    """Photographs that count how often they are drawn from."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.lock, self.count = threading.Lock(), 0

    def draw_picture(self, rng: np.random.Generator) -> np.ndarray:
        with self.lock:
            self.count += 1
        return super().draw_picture(rng)


class Keyed:
    """A source of clips with keys over these photographs."""

    def __init__(self, photos: Counted) -> None:
        self.photos = photos

    def draw(self, num_keys: int, rng: np.random.Generator) -> KeyClip:
        self.photos.draw_picture(rng)
        frames = np.zeros((1 + 4 * num_keys, CLIP_SIDE, CLIP_SIDE, 3), np.uint8)
        return KeyClip(frames_THWC=frames, keys=("still",) * num_keys, look="photo")


@pytest.mark.parametrize("kind", ["moves", "keys"])
def test_drawn_clips_wait_for_their_use(tmp_path: Path, kind: str) -> None:
    Image.fromarray(np.zeros((150, 150, 3), np.uint8)).save(tmp_path / "a.png")
    photos = Counted(tmp_path)
    count = MOST + 20
    drawn: Iterator[object] = (
        photos.draw_many(count) if kind == "moves" else draw_many(Keyed(photos), count, 1, seed=0)
    )
    next(drawn)
    deadline = time.monotonic() + 0.7
    while time.monotonic() < deadline and photos.count <= MOST:
        time.sleep(0.02)
    assert photos.count <= MOST
    assert len(list(drawn)) == count - 1
    assert photos.count == count
