"""Random crops of clips: a step's batch, from memory or from the disk.

Clips that fit lie in the device's memory, where cutting crops costs next to nothing. Others stay on
the disk, memory-mapped: several threads read a step's crops while the step before is computed.
Shapes: N clips, B batch, T H W pixels, C colour.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from nbp_core.train.task import Part

Frames = NDArray[np.uint8]
READERS = 8
"""Threads that read from the disk: they wait more than they work."""


class Crops:
    """Crops of side x side pixels of clips and of photographs' camera moves."""

    def __init__(
        self,
        clips_NTHWC: Frames,
        photos_NTHWC: Frames | None,
        *,
        side: int,
        photo_share: float,
        batch_size: int,
        seed: int,
        device: torch.device,
        in_memory: bool,
    ) -> None:
        place = device if in_memory else torch.device("cpu")
        self.sources = [torch.from_numpy(clips_NTHWC).to(place)]
        if photos_NTHWC is not None:
            self.sources.append(torch.from_numpy(photos_NTHWC).to(place))
        self.side = side
        self.photo_share = photo_share
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        self._readers = None if in_memory else ThreadPoolExecutor(READERS)
        self._ahead: dict[tuple[int, int, Part], list[Future[Tensor]]] = {}

    def batch(self, step: int, num_frames: int, part: Part) -> Tensor:
        """A part of a step's crops, clip_BCTHW in [0, 1]."""
        if self._readers is None:
            crops = [self._cut(*place) for place in self._places(step, num_frames, part)]
        else:
            wanted = self._ahead.pop((step, num_frames, part), None)
            wanted = wanted or self._read(self._readers, step, num_frames, part)
            self._ahead = {
                key: reads for key, reads in self._ahead.items() if key[0] in (step, step + 1)
            }
            ahead = (step + 1, num_frames, part)
            self._ahead[ahead] = self._read(self._readers, *ahead)
            crops = [read.result() for read in wanted]
        batch = torch.stack(crops).to(self.device)
        return rearrange(batch, "b t h w c -> b c t h w").float() / 255

    def _read(
        self, readers: ThreadPoolExecutor, step: int, num_frames: int, part: Part
    ) -> list[Future[Tensor]]:
        return [
            readers.submit(lambda place: self._cut(*place).clone(), place)
            for place in self._places(step, num_frames, part)
        ]

    def _places(
        self, step: int, num_frames: int, part: Part
    ) -> list[tuple[Tensor, tuple[slice | int, ...]]]:
        """Which clip, and where in it, for each crop: from (seed, step) alone."""
        rng = np.random.default_rng([self.seed, step])
        extent = (1, num_frames, self.side, self.side)
        places: list[tuple[Tensor, tuple[slice | int, ...]]] = []
        for _ in range(self.batch_size):
            clips_NTHWC = self.sources[0]
            if len(self.sources) > 1 and rng.random() < self.photo_share:
                clips_NTHWC = self.sources[1]
            sizes = zip(clips_NTHWC.shape, extent, strict=False)
            n, *starts = (int(rng.integers(size - length + 1)) for size, length in sizes)
            cuts = zip(starts, extent[1:], strict=True)
            places.append((clips_NTHWC, (n, *(slice(a, a + length) for a, length in cuts))))
        return places[part.own]

    @staticmethod
    def _cut(clips_NTHWC: Tensor, place: tuple[slice | int, ...]) -> Tensor:
        return clips_NTHWC[place]
