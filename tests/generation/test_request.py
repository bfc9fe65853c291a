"""One request, one assembly: alone and in batches, each clip says what it was asked to be."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from nbp_core import SamplingConfig, VideoPipeline
from nbp_core.generation.batches import generate_many
from nbp_core.generation.request import GenerateRequest
from nbp_core.media.files import Frames
from tests.support.models import build_pipeline

SAMPLING = SamplingConfig(block_shape=(1, 16, 16), seed=3)


@pytest.fixture(scope="module")
def pipeline() -> VideoPipeline:
    return build_pipeline()


def frames(seed: int, count: int = 1) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (count, 48, 64, 3), dtype=np.uint8)


def test_a_request_cannot_be_changed() -> None:
    request = GenerateRequest(action="door-open")
    with pytest.raises(dataclasses.FrozenInstanceError):
        request.num_frames = 33  # type: ignore[misc]
    assert (request.num_context_frames, request.num_frames) == (0, 17)


def test_a_request_makes_the_clip_of_its_values(pipeline: VideoPipeline) -> None:
    values: dict[str, Any] = {"action": "door-open", "frames_THWC": frames(0), "sampling": SAMPLING}
    run = pipeline.start(GenerateRequest(**values))
    for _ in run:
        continue
    made, expected = run.generation(), pipeline.generate(**values)
    assert np.array_equal(made.tokens_thw, expected.tokens_thw)
    assert made.manifest == expected.manifest


def test_every_clip_of_a_batch_has_its_own_manifest(pipeline: VideoPipeline) -> None:
    requests = [
        GenerateRequest(action=action, frames_THWC=frames(seed), sampling=SAMPLING)
        for seed, action in enumerate(("door-open", "pan-left"))
    ]
    run = pipeline.start(*requests)
    for _ in run:
        continue
    for index, request in enumerate(requests):
        manifest = run.generation(index).manifest
        assert manifest["action"] == request.action
        assert manifest == pipeline.start(request).generation().manifest


def test_many_clips_are_those_made_alone_whatever_the_batch(pipeline: VideoPipeline) -> None:
    actions, contexts = (
        ("door-open", "pan-left", "pan-left"),
        np.stack([frames(i) for i in range(3)]),
    )
    many = generate_many(pipeline, actions, contexts, sampling=SAMPLING, batch_size=2)
    for index, (action, context) in enumerate(zip(actions, contexts, strict=True)):
        sampling = dataclasses.replace(SAMPLING, seed=SAMPLING.seed + index)
        alone = pipeline.generate(action, context, sampling=sampling)
        assert np.array_equal(many.tokens_Nthw[index], alone.tokens_thw)
        assert np.array_equal(many.frames_NTHWC[index], alone.frames_THWC)


@pytest.mark.parametrize(
    "other",
    [
        {"num_frames": 33},
        {"frames_THWC": None},
        {"frames_THWC": frames(0, 5)},
        {"sampling": SamplingConfig(block_shape=(1, 16, 16), seed=3, temperature=0.5)},
    ],
)
def test_a_batch_of_different_lengths_or_sampling_is_refused(
    pipeline: VideoPipeline, other: dict[str, Any]
) -> None:
    first = GenerateRequest(action="door-open", frames_THWC=frames(0), sampling=SAMPLING)
    with pytest.raises(ValueError, match="must have equal lengths, contexts and sampling"):
        pipeline.start(first, dataclasses.replace(first, **other))


def test_a_batch_of_nothing_is_refused(pipeline: VideoPipeline) -> None:
    with pytest.raises(ValueError, match="at least one request"):
        pipeline.start()


def test_guidance_needs_an_action_for_every_clip(pipeline: VideoPipeline) -> None:
    guided = dataclasses.replace(SAMPLING, guidance_scale=2.0)
    requests = [GenerateRequest(action=action, sampling=guided) for action in ("door-open", None)]
    with pytest.raises(ValueError, match="guidance needs an action for every clip"):
        pipeline.start(*requests)


def test_a_clip_of_a_batch_does_not_keep_the_others_in_memory(pipeline: VideoPipeline) -> None:
    run = pipeline.start(*(GenerateRequest(action="door-open", sampling=SAMPLING),) * 3)
    for _ in run:
        continue
    clip = run.generation(1)
    for array in (clip.frames_THWC, clip.tokens_thw):
        kept = array
        while isinstance(kept.base, np.ndarray):
            kept = kept.base
        assert kept.nbytes == array.nbytes
    assert torch.from_numpy(clip.tokens_thw).untyped_storage().nbytes() == clip.tokens_thw.nbytes


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"actions": []}, "there is no clip to generate"),
        ({"contexts_NTHWC": np.stack([frames(0)])}, "2 clips cannot continue 1 contexts"),
        ({"contexts_NTHWC": np.stack([frames(0)] * 3)}, "2 clips cannot continue 3 contexts"),
        ({"batch_size": 0}, "a batch must have at least 1 clip, not 0"),
        ({"batch_size": -1}, "a batch must have at least 1 clip, not -1"),
    ],
)
def test_many_clips_of_odd_numbers_are_refused_in_one_sentence(
    pipeline: VideoPipeline, arguments: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        generate_many(pipeline, **{"actions": ["door-open"] * 2, "sampling": SAMPLING, **arguments})
