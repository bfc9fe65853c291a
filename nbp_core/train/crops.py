"""Random crops of clips, which form a step's batch, from memory or from the disk.

Clips that fit are in the device's memory, where cropping takes almost no time. Others stay on the
disk, memory-mapped; several threads read a step's crops while the previous step is computed.
Shapes: N clips, B batch, T H W pixels, C colour.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import torch
from einops import rearrange
from numpy.typing import NDArray
from torch import Tensor

from nbp_core.train.loop.task import Part

if TYPE_CHECKING:
    from nbp_core.train.tokenizer import TokenizerRecipe

Frames = NDArray[np.uint8]
Cut = tuple[slice | int, ...]
READERS = 8
"""Number of threads that read from the disk, where they mostly wait."""


class Crops:
    """Random square crops, as a recipe has them, from clips and camera moves over photographs.

    Of `crop_tries` random places in a clip, the one with the most motion is used, since most of a
    clip is still and soon learned.
    """

    def __init__(
        self,
        clips_NTHWC: Frames,
        photos_NTHWC: Frames | None,
        recipe: TokenizerRecipe,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        place = device if recipe.clips_in_memory else torch.device("cpu")
        self.sources = [torch.from_numpy(clips_NTHWC).to(place)]
        if photos_NTHWC is not None:
            self.sources.append(torch.from_numpy(photos_NTHWC).to(place))
        self.recipe = recipe
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        self._readers = None if recipe.clips_in_memory else ThreadPoolExecutor(READERS)
        self._ahead: dict[tuple[int, int, Part], list[Future[Tensor]]] = {}

    def batch(self, step: int, num_frames: int, part: Part) -> Tensor:
        """One part of a step's crops: clip_BCTHW in [0, 1] on the device."""
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

    def _places(self, step: int, num_frames: int, part: Part) -> list[tuple[Tensor, list[Cut]]]:
        """The clip and the place of each crop, drawn from (seed, step) alone."""
        rng = np.random.default_rng([self.seed, step])
        extent = (num_frames, self.recipe.crop, self.recipe.crop)
        places: list[tuple[Tensor, list[Cut]]] = []
        for _ in range(self.batch_size):
            clips_NTHWC = self.sources[0]
            if len(self.sources) > 1 and rng.random() < self.recipe.photo_share:
                clips_NTHWC = self.sources[1]
            num_clips, *sizes = clips_NTHWC.shape[:4]
            clip = int(rng.integers(num_clips))
            cuts: list[Cut] = []
            for _ in range(self.recipe.crop_tries):
                starts = [int(rng.integers(a - b + 1)) for a, b in zip(sizes, extent, strict=True)]
                cuts.append((clip, *(slice(a, a + b) for a, b in zip(starts, extent, strict=True))))
            places.append((clips_NTHWC, cuts))
        return places[part.own]

    @staticmethod
    def _cut(clips_NTHWC: Tensor, cuts: list[Cut]) -> Tensor:
        crops = [clips_NTHWC[cut] for cut in cuts]
        return max(crops, key=_movement) if len(crops) > 1 else crops[0]


def _movement(crop_THWC: Tensor) -> float:
    """Sum over all pixels of the change from the first frame to the last."""
    return float((crop_THWC[-1].float() - crop_THWC[0].float()).abs().sum())
