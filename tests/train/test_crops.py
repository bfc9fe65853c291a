from pathlib import Path

import numpy as np
import torch

from nbp_core.train.crops import Crops, Frames
from nbp_core.train.loop.task import Part
from nbp_core.train.tokenizer import TokenizerRecipe

CPU = torch.device("cpu")


def crops_of(clips: Frames, photos: Frames | None, in_memory: bool, tries: int = 1) -> Crops:
    return Crops(
        clips,
        photos,
        TokenizerRecipe(crop=8, photo_share=0.5, crop_tries=tries, clips_in_memory=in_memory),
        batch_size=6,
        seed=3,
        device=CPU,
    )


def numbered(count: int, first: int) -> Frames:
    """Clips of one shade each, so that a crop tells where it is from."""
    shades = np.arange(first, first + count, dtype=np.uint8)[:, None, None, None, None]
    return np.broadcast_to(shades, (count, 9, 16, 16, 3)).copy()


def test_crops_from_the_disk_are_those_from_memory(tmp_path: Path) -> None:
    np.save(tmp_path / "clips.npy", np.random.default_rng(0).integers(0, 256, (5, 9, 16, 16, 3)))
    clips = np.load(tmp_path / "clips.npy").astype(np.uint8)
    near, far = (crops_of(clips, None, in_memory, tries=3) for in_memory in (True, False))
    # Lengths change in the middle of a run, and a resumed run begins anywhere.
    for step, length in ((4, 5), (5, 5), (6, 9), (7, 9), (2, 5)):
        for part in (Part(0, 2), Part(1, 2)):
            torch.testing.assert_close(
                near.batch(step, length, part), far.batch(step, length, part), rtol=0, atol=0
            )


def test_parts_make_up_the_batch_and_photographs_are_mixed_in() -> None:
    crops = crops_of(numbered(5, 0), numbered(5, 100), True)
    whole = crops.batch(0, 5, Part())
    assert whole.shape == (6, 3, 5, 8, 8)
    halves = [crops.batch(0, 5, Part(i, 2)) for i in range(2)]
    torch.testing.assert_close(torch.stack(halves, 1).flatten(0, 1), whole)
    shades = torch.cat([crops.batch(step, 5, Part())[:, 0, 0, 0, 0] for step in range(20)]) * 255
    assert 30 < int((shades > 50).sum()) < 90
    assert len(set(shades.round().tolist())) == 10


def test_crops_are_taken_where_most_moves() -> None:
    clips = numbered(4, 0)
    clips[:, 1:, :4] += 100

    def moving(tries: int) -> int:
        crops = crops_of(clips, None, True, tries)
        batches = torch.cat([crops.batch(step, 9, Part()) for step in range(20)])
        return int((batches[:, :, -1] != batches[:, :, 0]).flatten(1).any(1).sum())

    # Of 9 starts from the top, 4 show what moves: 53 of 120 crops, and all but (5/9)^4 of them.
    assert moving(1) < 75
    assert moving(4) > 95
