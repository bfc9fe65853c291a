"""What Pillow does not say of a GIF: which pixels its frames cover, how long its comments are."""

from __future__ import annotations

import contextlib
import mmap
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.GifImagePlugin import GifImageFile

_CLEARED, _RESTORED = 2, 3
"""What becomes of a frame's area in a GIF before the next frame; else it stays."""


class Screen:
    """Which pixels of a GIF its frames cover. Pillow gives the others a colour."""

    def __init__(self, image: GifImageFile) -> None:
        self._image = image
        self._index = 0
        self._before_HW = np.zeros(image.size[::-1], np.bool_)
        self._cover()

    def seek(self, index: int) -> None:
        """Goes on to a frame with an index that is no smaller."""
        while self._index < index:
            if self._image.disposal_method == _CLEARED:
                self._before_HW = self.covered_HW.copy()
                self._before_HW[self._area] = False
            elif self._image.disposal_method != _RESTORED:
                self._before_HW = self.covered_HW
            self._index += 1
            self._image.seek(self._index)
            self._cover()

    def _cover(self) -> None:
        left, top, right, bottom = self._image.dispose_extent or (0, 0, 0, 0)
        self._area = (slice(top, bottom), slice(left, right))
        self.covered_HW = self._before_HW.copy()
        self.covered_HW[self._area] = True

    def laid(self, frame: Image.Image) -> Image.Image:
        """The frame within the screen, transparent where nothing is covered."""
        height, width = self.covered_HW.shape
        if frame.size != (width, height):
            frame = frame.crop((0, 0, width, height))
        if self.covered_HW.all():
            return frame
        frame = frame.convert("RGBA")
        alpha_HW = np.asarray(frame.getchannel("A"))
        frame.putalpha(Image.fromarray(np.where(self.covered_HW, alpha_HW, np.uint8(0))))
        return frame


def comment_bytes(path: Path) -> int:
    """Bytes of all comments of a GIF, whole or cut; 0 for other files."""
    total = 0
    with (
        contextlib.suppress(IndexError, OSError, ValueError),  # cut, or gone: Pillow says so
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        if data[:4] != b"GIF8":
            return 0
        at = 13 + _colour_table_bytes(data[10])
        while data[at : at + 1] not in (b";", b""):
            label = data[at : at + 2]
            if label[:1] == b"!":
                at += 2
            elif label[:1] == b",":
                at += 11 + _colour_table_bytes(data[at + 9])
            else:
                at += 1  # Pillow reads on as well
                continue
            while size := data[at]:
                at += 1 + size
                total += 1 + size if label == b"!\xfe" else 0
            at += 1
    return total


def _colour_table_bytes(flags: int) -> int:
    return 3 * 2 ** (1 + (flags & 7)) if flags & 128 else 0
