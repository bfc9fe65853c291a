"""The same seed gives the same frames, alone and beside others: in one process and in several."""

from __future__ import annotations

import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from nbp_core.config.sampling import SamplingConfig
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.request import GenerateRequest
from nbp_core.tokenizer.model import VideoTokenizer
from tests.support.models import save_pipeline

TINY = Path(__file__).parents[2] / "weights" / "tiny"
PROGRAM = """
import sys, torch
from pathlib import Path
torch.set_num_threads(int(sys.argv[3]))
from tests.generation.test_equal_frames import fingerprints
print(*fingerprints(Path(sys.argv[1]), int(sys.argv[2])))
"""


def fingerprints(folder: Path, count: int) -> list[int]:
    """Of the frames of a clip, made again and again."""
    pipeline = VideoPipeline.from_pretrained(folder, "cpu")
    sampling = SamplingConfig(seed=3, block_shape=(1, 4, 16))
    clips = [pipeline.generate("door-open", sampling=sampling) for _ in range(count)]
    return [zlib.crc32(clip.frames_THWC.tobytes()) for clip in clips]


def at_once(folder: Path, processes: int, count: int, threads: int = 2) -> set[int]:
    def run(_: int) -> str:
        command = [sys.executable, "-c", PROGRAM, str(folder), str(count), str(threads)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=600)
        return done.stdout

    with ThreadPoolExecutor(processes) as pool:
        found = [int(number) for out in pool.map(run, range(processes)) for number in out.split()]
    assert len(found) == processes * count
    return set(found)


def test_frames_are_equal_in_processes_at_once(tmp_path: Path) -> None:
    assert len(at_once(save_pipeline(tmp_path), 2, 3)) == 1


def test_frames_are_equal_with_one_thread_and_with_two() -> None:
    assert at_once(TINY, 1, 1, threads=1) == at_once(TINY, 1, 1, threads=2)


@pytest.mark.parametrize("num_frames", [1, 17])
def test_pixels_and_latents_do_not_depend_on_threads(num_frames: int) -> None:
    tokenizer = VideoTokenizer.from_pretrained(TINY.parent / "nano")
    clip_BCTHW = torch.rand(1, 3, num_frames, 128, 128, generator=torch.Generator().manual_seed(0))
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 4):
            torch.set_num_threads(threads)
            with torch.inference_mode():
                tokens_Bthw = tokenizer.encode(clip_BCTHW)
                found.append((tokenizer.to_latent(clip_BCTHW), tokenizer.decode(tokens_Bthw)))
    finally:
        torch.set_num_threads(before)
    for latent, pixels in found[1:]:
        assert torch.equal(latent, found[0][0])
        assert torch.equal(pixels, found[0][1])


@pytest.mark.parametrize("start", ["an action", "a first frame", "a longer clip", "guidance"])
def test_frames_of_a_batch_are_those_of_each_seed_alone(start: str) -> None:
    pipeline = VideoPipeline.from_pretrained(TINY, "cpu")
    known = np.random.default_rng(0).integers(0, 256, (1, 128, 128, 3), dtype=np.uint8)
    requests = [
        GenerateRequest(
            action="door-open" if start != "a first frame" else None,
            frames_THWC=known if start == "a first frame" else None,
            num_frames=33 if start == "a longer clip" else 17,
            sampling=SamplingConfig(
                seed=seed,
                block_shape=(1, 16, 16),
                temperature=0.7,
                guidance_scale=2 if start == "guidance" else 1,
            ),
        )
        for seed in (3, 2**40, 4)
    ]
    with pipeline.start(*requests) as run:
        for _ in run:
            continue
    for index, request in enumerate(requests):
        made, batched = pipeline.start(request), run.generation(index)
        for _ in made:
            continue
        alone = made.generation()
        assert np.array_equal(batched.tokens_thw, alone.tokens_thw)
        assert np.array_equal(batched.frames_THWC, alone.frames_THWC)
        assert batched.manifest == alone.manifest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_frames_are_equal_in_thirty_runs_and_in_three_processes_at_once() -> None:
    assert at_once(TINY, 1, 30) == at_once(TINY, 3, 10)
    assert len(at_once(TINY, 1, 3)) == 1
