"""A run that ends, is closed or is dropped leaves no thread, cache or captured steps behind."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from nbp_core.config.sampling import SamplingConfig
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.run import GenerationRun
from nbp_core.sampling.cuda_graph import GraphDecoder, Work
from nbp_core.transformer.attention import KVCache
from tests.sampling.test_cuda_graph import taped
from tests.support.models import build_pipeline


@pytest.fixture
def pipeline() -> VideoPipeline:
    return build_pipeline()


@pytest.fixture(autouse=True)
def uncollected() -> Iterator[None]:
    """Nothing may need the garbage collector to go."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def decoder_threads() -> int:
    return sum(thread.name.startswith("decoder") for thread in threading.enumerate())


def begun(pipeline: VideoPipeline, num_frames: int = 17) -> GenerationRun:
    """In blocks of a frame, after a given one."""
    given = np.zeros((1, 128, 128, 3), np.uint8)
    sampling = SamplingConfig(block_shape=(1, 16, 16))
    return pipeline.stream("door-open", given, num_frames, sampling)


def until_a_frame(run: GenerationRun) -> None:
    """By then the thread that decodes has begun."""
    assert any(step.new_frames is not None and step.index for step in run)


def closed(pipeline: VideoPipeline) -> GenerationRun:
    with begun(pipeline) as run:
        until_a_frame(run)
    return run


def dropped(pipeline: VideoPipeline) -> GenerationRun:
    run = begun(pipeline)
    until_a_frame(run)
    return run


def failed(pipeline: VideoPipeline) -> GenerationRun:
    try:
        with begun(pipeline) as run:
            until_a_frame(run)
            raise ValueError("something else")
    except ValueError:
        return run


def ended(pipeline: VideoPipeline) -> GenerationRun:
    run = begun(pipeline, num_frames=5)
    assert len(list(run)) == 1
    assert run.generation().is_complete
    return run


@pytest.mark.parametrize("leave", [closed, dropped, failed, ended])
def test_runs_that_are_left_leave_nothing(
    pipeline: VideoPipeline,
    leave: Callable[[VideoPipeline], GenerationRun],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caches: list[weakref.ref[KVCache]] = []
    new_cache = pipeline.transformer.new_cache

    def watched(batch: int, capacity: int) -> KVCache:
        cache = new_cache(batch, capacity)
        caches.append(weakref.ref(cache))
        return cache

    monkeypatch.setattr(pipeline.transformer, "new_cache", watched)
    runs = []
    for _ in range(5):
        run = leave(pipeline)
        runs.append(weakref.ref(run))
        del run
    assert len(caches) == 5
    assert not [cache for cache in caches if cache() is not None]
    assert not [run for run in runs if run() is not None]
    assert decoder_threads() == 0


def test_a_closed_run_tells_what_it_made_and_makes_no_more(pipeline: VideoPipeline) -> None:
    run = closed(pipeline)
    made = run.generation()
    assert len(made.frames_THWC) in (5, 9)
    assert not made.is_complete
    assert list(run) == []
    run.close()


def test_captured_steps_of_a_closed_run_are_those_of_the_next(pipeline: VideoPipeline) -> None:
    """As between a warm-up and the run that is timed."""
    captures: list[Work] = []

    def capture(work: Work) -> Work:
        captures.append(work)
        return taped(work)

    pipeline.decoder = GraphDecoder(pipeline.transformer, capture)
    closed(pipeline)
    closed(pipeline)
    assert len(captures) == 1


def test_captured_steps_go_with_their_pipeline(pipeline: VideoPipeline) -> None:
    decoder = GraphDecoder(pipeline.transformer, taped)
    pipeline.decoder = decoder
    closed(pipeline)
    kept = [weakref.ref(steps) for steps in decoder._kept.values()]
    cache = weakref.ref(next(iter(decoder._kept.values())).memory.cache)
    model = weakref.ref(pipeline.transformer)
    assert kept
    assert cache() is not None
    del pipeline.decoder, pipeline.transformer, decoder
    assert not [steps for steps in kept if steps() is not None]
    assert cache() is None
    assert model() is None
