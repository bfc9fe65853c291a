import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nbp_core import SamplingConfig, VideoPipeline
from nbp_core.config.description import CheckpointError
from nbp_core.config.shapes import FIGURE6_SHAPES, Size3
from nbp_core.generation.request import GenerateRequest
from tests.support.models import build_pipeline, save_pipeline


@pytest.fixture(scope="module")
def pipeline() -> VideoPipeline:
    return build_pipeline()


def frames(count: int, height: int = 128, width: int = 128, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def test_an_action_gives_a_whole_clip_in_95_steps(pipeline: VideoPipeline) -> None:
    result = pipeline.generate("door-open")
    assert result.frames_THWC.shape == (17, 128, 128, 3)
    assert result.frames_THWC.dtype == np.uint8
    assert result.tokens_thw.shape == (5, 16, 16)
    assert result.tokens_thw.dtype == np.int64
    assert result.steps == 95 == len(result.timings["per_step_s"])
    assert result.is_complete
    assert len(np.unique(result.tokens_thw)) > 10


@pytest.mark.parametrize("shape", FIGURE6_SHAPES[1:])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_steps_are_those_announced(pipeline: VideoPipeline, shape: Size3, count: int) -> None:
    context = frames(count) if count else None
    sampling = SamplingConfig(block_shape=shape)
    result = pipeline.generate("door-open", context, sampling=sampling)
    assert result.steps == pipeline.num_steps(shape, count)
    assert result.is_complete


def test_next_token_prediction_takes_a_step_a_token(pipeline: VideoPipeline) -> None:
    shape = (1, 1, 1)
    assert pipeline.num_steps(shape) == 1280
    result = pipeline.generate(frames_THWC=frames(13), sampling=SamplingConfig(block_shape=shape))
    assert result.steps == 256


def test_the_context_comes_back_as_its_reconstruction(pipeline: VideoPipeline) -> None:
    picture = frames(1, 200, 300)
    result = pipeline.generate("pan-left", picture)
    assert result.steps <= 80
    assert np.array_equal(result.frames_THWC[:1], pipeline.reconstruct(picture).frames_THWC)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_same_seed_same_frames_other_seed_others(pipeline: VideoPipeline, count: int) -> None:
    context = frames(count) if count else None
    first, again, other = (
        pipeline.generate("door-open", context, sampling=SamplingConfig(seed=seed))
        for seed in (3, 3, 4)
    )
    assert np.array_equal(first.frames_THWC, again.frames_THWC)
    assert first.manifest == again.manifest
    assert not np.array_equal(first.tokens_thw, other.tokens_thw)
    known = 1 + (count - 1) // 4 if count else 0
    assert np.array_equal(first.tokens_thw[:known], other.tokens_thw[:known])


def test_streamed_frames_are_the_whole_clip_and_its_decoded_tokens(pipeline: VideoPipeline) -> None:
    run = pipeline.stream("door-open")
    steps = list(run)
    result = run.generation()
    seen = [step.new_frames for step in steps if step.new_frames is not None]
    assert [len(part) for part in seen] == [1, 4, 4, 4, 4]
    assert np.array_equal(np.concatenate(seen), result.frames_THWC)
    whole = pipeline.tokenizer.decode(torch.from_numpy(result.tokens_thw)[None])[0]
    decoded = (whole * 255).round().permute(1, 2, 3, 0).numpy()
    assert np.abs(decoded - result.frames_THWC).max() <= 1


def test_sampling_goes_on_while_a_frame_is_decoded(
    pipeline: VideoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoding waits for a later step, which would never come if sampling waited for it."""
    later = threading.Event()
    decode, features = pipeline.tokenizer.decode, pipeline.transformer.features
    sampled = 0

    def slow_decode(*arguments: Any) -> torch.Tensor:
        assert later.wait(60)
        return decode(*arguments)

    def counted(*arguments: Any, **named: Any) -> torch.Tensor:
        nonlocal sampled
        sampled += 1
        if sampled > 32:
            later.set()
        return features(*arguments, **named)

    monkeypatch.setattr(pipeline.tokenizer, "decode", slow_decode)
    monkeypatch.setattr(pipeline.transformer, "features", counted)
    steps = list(pipeline.stream("door-open"))
    first = next(step for step in steps if step.new_frames is not None)
    assert first.index == 30, "a frame is told with the step that completed it"


def test_a_stop_drops_what_was_sampled_while_a_frame_was_decoded(
    pipeline: VideoPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    decode = pipeline.tokenizer.decode

    def stopped_decode(*arguments: Any) -> torch.Tensor:
        stop.set()
        return decode(*arguments)

    monkeypatch.setattr(pipeline.tokenizer, "decode", stopped_decode)
    run = pipeline.stream("door-open", stop=stop)
    steps = list(run)
    result = run.generation()
    assert result.steps == len(steps)
    assert len(result.frames_THWC) == max(0, 4 * len(result.tokens_thw) - 3)
    assert not result.is_complete


def test_steps_tell_every_token_and_its_place(pipeline: VideoPipeline) -> None:
    run = pipeline.stream("door-open", frames(1))
    steps = list(run)
    result = run.generation()
    assert [step.index for step in steps] == list(range(64))
    assert {step.num_steps for step in steps} == {64}
    assert [step.phase for step in steps] == ["prefill"] + ["block"] * 63
    assert steps[0].new_frames is not None
    assert len(steps[0].new_frames) == 1  # the context can be shown at once
    places = np.concatenate([step.places for step in steps])
    tokens = np.concatenate([step.tokens for step in steps])
    assert np.array_equal(np.sort(places), np.arange(256, 1280))
    assert np.array_equal(result.tokens_thw.ravel()[places], tokens)
    elapsed = [step.elapsed for step in steps]
    assert elapsed == sorted(elapsed)
    assert steps[-1].cache_length == 1 + 1280
    assert steps[-1].cache_bytes > steps[0].cache_bytes > 0


@pytest.mark.parametrize(("count", "length"), [(0, 33), (1, 41), (5, 33), (17, 29), (21, 25)])
def test_longer_videos_go_on_from_the_last_frames(
    pipeline: VideoPipeline, count: int, length: int
) -> None:
    context = frames(count) if count else None
    sampling = SamplingConfig(block_shape=(1, 16, 16))
    run = pipeline.stream("door-open", context, num_frames=length, sampling=sampling)
    places = np.concatenate([step.places for step in run])
    result = run.generation()
    assert result.frames_THWC.shape[0] == length
    assert result.tokens_thw.shape[0] == 1 + (length - 1) // 4
    known = 1 + (count - 1) // 4 if count else 0
    assert np.array_equal(np.sort(places), np.arange(known * 256, result.tokens_thw.size))
    assert result.is_complete


def test_a_set_stop_ends_before_the_next_step_and_keeps_what_is_there(
    pipeline: VideoPipeline,
) -> None:
    stop = threading.Event()
    run = pipeline.stream("door-open", stop=stop)
    for step in run:
        if step.index == 40:
            stop.set()
    result = run.generation()
    assert result.steps == 41
    assert len(result.frames_THWC) == 1
    assert not result.is_complete


def test_samples_of_a_batch_differ(pipeline: VideoPipeline) -> None:
    request = GenerateRequest(
        action="door-open",
        frames_THWC=frames(1),
        sampling=SamplingConfig(block_shape=(1, 16, 16)),
    )
    with pipeline.start(*(request.with_seed_after(i) for i in range(3))) as run:
        for _ in run:
            continue
    results = [run.generation(i) for i in range(3)]
    assert np.array_equal(results[0].frames_THWC[0], results[1].frames_THWC[0])
    assert not np.array_equal(results[0].tokens_thw, results[1].tokens_thw)


def test_guidance_changes_the_clip_only_with_an_action(pipeline: VideoPipeline) -> None:
    plain, guided = (SamplingConfig(guidance_scale=scale) for scale in (1.0, 4.0))
    for action, same in (("door-open", False), (None, True)):
        first = pipeline.generate(action, sampling=plain).tokens_thw
        second = pipeline.generate(action, sampling=guided).tokens_thw
        assert np.array_equal(first, second) is same


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"action": "door-opn"}, "unknown action 'door-opn'; the nearest are door-open"),
        ({"num_frames": 18}, r"the clip must have 1 \+ 4n frames"),
        ({"frames_THWC": frames(2)}, r"1 \+ 4n frames"),
        ({"frames_THWC": frames(17)}, "leaves nothing to generate"),
        ({"frames_THWC": frames(1)[0]}, "uint8 of shape"),
        ({"frames_THWC": frames(0)}, "there is no pixel in frames of shape"),
        ({"frames_THWC": frames(0, 48, 64)}, "there is no pixel in frames of shape"),
        ({"frames_THWC": frames(1, 0, 0)}, "there is no pixel in frames of shape"),
        ({"num_frames": 0}, r"the clip must have 1 \+ 4n frames .*, not 0"),
        ({"num_frames": -3}, r"the clip must have 1 \+ 4n frames .*, not -3"),
        ({"num_frames": 17.0}, r"the clip must have 1 \+ 4n frames .*, not 17.0"),
        ({"action": ""}, "unknown action ''"),
        ({"sampling": SamplingConfig(block_shape=(1, 3, 16))}, "does not tile"),
    ],
)
def test_requests_that_cannot_be_done_say_why(
    pipeline: VideoPipeline, request_: dict[str, object], sentence: str
) -> None:
    with pytest.raises(ValueError, match=sentence):
        pipeline.generate(**request_)  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(), (1, 16), (1, 0, 16), (1, -1, 16), [1, 1, 16], "1x1x16"])
def test_every_call_with_a_block_shape_refuses_what_is_none(
    pipeline: VideoPipeline, shape: Any
) -> None:
    tokens_thw = np.zeros(pipeline.grid, np.int64)
    for call in (pipeline.num_steps, lambda it: pipeline.attention(tokens_thw, block_shape=it)):
        with pytest.raises(ValueError, match=r"^block shape must be three whole numbers"):
            call(shape)


@pytest.mark.parametrize(
    ("tokens_thw", "sentence"),
    [
        (np.zeros((0, 16, 16), np.int64), "do not fill whole latent frames"),
        (np.zeros((16, 16), np.int64), "do not fill whole latent frames"),
        (np.zeros((5, 16, 8), np.int64), "do not fill whole latent frames"),
        (np.zeros((5, 16, 16)), "do not fill whole latent frames"),
        (np.full((5, 16, 16), -1), "outside this model's codebook of 60 codes"),
        (np.full((5, 16, 16), 60), "outside this model's codebook of 60 codes"),
    ],
)
def test_odd_tokens_are_refused_in_one_sentence(
    pipeline: VideoPipeline, tokens_thw: np.ndarray, sentence: str
) -> None:
    for look in (pipeline.attention, pipeline.token_odds):
        with pytest.raises(ValueError, match=sentence):
            look(tokens_thw)


def test_tokens_of_a_small_type_are_the_same_tokens(pipeline: VideoPipeline) -> None:
    tokens_thw = np.random.default_rng(0).integers(0, 60, (2, 16, 16))
    odds, small = (
        pipeline.token_odds(tokens.astype(kind), "door-open").probability_thw
        for tokens, kind in ((tokens_thw, np.int64), (tokens_thw, np.uint8))
    )
    assert np.array_equal(odds, small)


def test_plain_models_extend_frames_and_know_no_actions() -> None:
    pipeline = build_pipeline("plain")
    result = pipeline.generate(frames_THWC=frames(5))
    assert result.steps == 48
    with pytest.raises(ValueError, match="first frames"):
        pipeline.generate()
    with pytest.raises(ValueError, match="has no actions"):
        pipeline.generate("door-open", frames(5))


def test_a_saved_pipeline_generates_and_names_its_weights(tmp_path: Path) -> None:
    pipeline = VideoPipeline.from_pretrained(save_pipeline(tmp_path), device="cpu")
    manifest = pipeline.generate("door-open").manifest
    assert len(manifest["sha256"]) == len(manifest["tokenizer_sha256"]) == 64
    assert manifest["action"] == "door-open"
    assert manifest["sampling"]["top_p"] == 0.9


def test_another_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = save_pipeline(tmp_path)
    weights = tmp_path / "nano" / "model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(CheckpointError, match="another version of tokenizer 'nano'"):
        VideoPipeline.from_pretrained(folder)
