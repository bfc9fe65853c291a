"""Clips longer than a sequence, over a window of recent latent frames, and lists of actions."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nbp_core.checkpoint import model_kind
from nbp_core.cli.main import main
from nbp_core.config.description import load_config
from nbp_core.config.models import TransformerConfig
from nbp_core.config.presets import COSMOS
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import CLIP_FRAMES
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.records import BlockStep
from nbp_core.generation.request import GenerateRequest
from nbp_core.generation.segments import plan_segments
from nbp_core.media.drift import mean_sharpness
from nbp_core.media.video import read_video
from nbp_core.tokenizer.model import VideoTokenizer
from tests.support.models import (
    build_pipeline,
    build_tokenizer,
    build_transformer,
    save_pipeline,
    tokenizer_config,
    transformer_config,
)

CONFIG = replace(
    transformer_config(),
    actions=("door-open", "drawer-close", "pan-left"),
    keys=("stay", "left"),
    num_conditions=6,
    frame_conditions=True,
    window=4,
)
ROWS = SamplingConfig(block_shape=(1, 4, 16), seed=3)
FRAMES = np.random.default_rng(0).integers(0, 255, (5, 96, 96, 3)).astype(np.uint8)


def bundled_with_a_window() -> list[Path]:
    folders = sorted((Path(__file__).parents[2] / "weights").iterdir())
    return [
        folder
        for folder in folders
        if model_kind(folder) == "transformer"
        and load_config(folder, TransformerConfig).window is not None
    ]


@pytest.fixture(scope="module")
def pipeline() -> VideoPipeline:
    return VideoPipeline(build_transformer(CONFIG), build_tokenizer())


def steps_of(pipeline: VideoPipeline, request: GenerateRequest) -> list[BlockStep]:
    with pipeline.start(request) as run:
        return list(run)


def test_a_model_too_short_to_continue_says_so() -> None:
    """It was asked for ever, and the page asks every model for its steps."""
    for latents, frames in ((1, 1), (2, 5)):
        with pytest.raises(ValueError, match=f"at most {frames} frames? at once"):
            plan_segments(0, 17, latents, COSMOS)
        with pytest.raises(ValueError, match=f"at most {frames} frames? at once"):
            plan_segments(5, 17, latents, COSMOS)
    assert [part.new for part in plan_segments(0, 5, 2, COSMOS)] == [2]
    assert [part.new for part in plan_segments(0, 17, 3, COSMOS)] == [3, 1, 1]


@pytest.mark.parametrize("num_frames", [33, 65, 45])
@pytest.mark.parametrize("context", [0, 1, 5, 21])
def test_a_clip_of_any_length_is_one_stream(
    pipeline: VideoPipeline, num_frames: int, context: int
) -> None:
    """Every place is filled once, frames come in order, and they are those of the tokens."""
    known = np.concatenate([FRAMES] * 5)[:context] if context else None
    request = GenerateRequest(
        action="door-open", frames_THWC=known, num_frames=num_frames, sampling=ROWS
    )
    with pipeline.start(request) as run:
        steps = list(run)
        made = run.generation()
    latents = 1 + (num_frames - 1) // 4
    assert made.is_complete
    assert made.tokens_thw.shape == (latents, 16, 16)
    assert len(steps) == pipeline.num_steps((1, 4, 16), context, num_frames) == steps[0].num_steps
    places = np.concatenate([step.places for step in steps])
    first_new = 0 if context == 0 else 256 * (1 + (context - 1) // 4)
    assert sorted(places.tolist()) == list(range(first_new, 256 * latents))
    flat = made.tokens_thw.reshape(-1)
    assert np.array_equal(flat[places], np.concatenate([step.tokens for step in steps]))
    whole = pipeline.tokenizer.decode(torch.from_numpy(made.tokens_thw)[None])[0]
    expected = (whole * 255).round().permute(1, 2, 3, 0).numpy()
    assert np.abs(made.frames_THWC.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("time_strides", [(2, 1), (3, 1), (2, 4)])
@pytest.mark.parametrize("num_known", [0, 1])
def test_a_clip_is_continued_whatever_the_frames_of_a_latent_frame(
    time_strides: tuple[int, int], num_known: int
) -> None:
    first, second = time_strides
    tokenizer = VideoTokenizer(
        replace(tokenizer_config(), strides=((first, 2, 2), (second, 1, 1)))
    ).requires_grad_(False)
    pipeline = VideoPipeline(build_transformer(transformer_config(grid=(4, 16, 16))), tokenizer)
    num_frames = tokenizer.config.num_frames(7)
    known = FRAMES[:num_known] if num_known else None
    made = pipeline.generate("door-open", known, num_frames, replace(ROWS, block_shape=None))
    assert made.is_complete
    assert len(made.frames_THWC) == num_frames
    assert made.tokens_thw.shape == (7, 16, 16)


def test_its_beginning_is_the_short_clip(pipeline: VideoPipeline) -> None:
    short = pipeline.generate("door-open", FRAMES[:1], sampling=ROWS)
    long = pipeline.generate("door-open", FRAMES[:1], 65, ROWS)
    assert np.array_equal(long.tokens_thw[:5], short.tokens_thw)
    longer = pipeline.generate("door-open", FRAMES[:1], 129, ROWS)
    assert np.array_equal(longer.tokens_thw[:17], long.tokens_thw)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_clips_of_a_batch_each_follow_their_own_actions(
    pipeline: VideoPipeline, guidance: float
) -> None:
    cold = replace(ROWS, temperature=0, guidance_scale=guidance)
    wanted = ((("door-open", "pan-left"), None), ((), "drawer-close"), (("left", "stay"), None))
    requests = [
        GenerateRequest(actions=actions, action=action, frames_THWC=FRAMES[:1], num_frames=33,
                        sampling=cold)
        for actions, action in wanted
    ]  # fmt: skip
    with pipeline.start(*requests) as run:
        for _ in run:
            continue
    for number, request in enumerate(requests):
        with pipeline.start(request) as alone:
            for _ in alone:
                continue
        assert np.array_equal(run.generation(number).tokens_thw, alone.generation().tokens_thw)


@pytest.mark.parametrize("changed", [1, 3, 4, 6, 9])
def test_actions_matter_from_their_latent_frame_on(pipeline: VideoPipeline, changed: int) -> None:
    actions = ["door-open"] * 10
    other = [*actions[:changed], "pan-left", *actions[changed + 1 :]]
    one, two = (
        pipeline.generate(None, FRAMES[:1], 41, ROWS, actions=names).tokens_thw
        for names in (actions, other)
    )
    assert np.array_equal(one[: changed + 1], two[: changed + 1])
    assert not np.array_equal(one[changed + 1], two[changed + 1])


def test_one_action_is_a_timeline_of_it(pipeline: VideoPipeline) -> None:
    one = pipeline.generate("pan-left", num_frames=33, sampling=ROWS)
    many = pipeline.generate(num_frames=33, sampling=ROWS, actions=["pan-left"])
    assert np.array_equal(one.tokens_thw, many.tokens_thw)
    assert many.manifest["actions"] == "pan-left"
    assert "actions" not in one.manifest


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_keys_on_a_timeline_are_a_play(pipeline: VideoPipeline, guidance: float) -> None:
    """Both sample over the same window, though only the one through a masked sequence at first.

    Guidance holds from the first new frame on, though no action moves the known one.
    """
    cold = replace(ROWS, temperature=0, guidance_scale=guidance)
    keys = ["left", "stay", "stay", "left", "left", "stay", "left", "stay"]
    made = pipeline.generate(None, FRAMES[:1], 33, cold, actions=keys).tokens_thw
    with pipeline.play(FRAMES[0], "arm", cold) as play:
        played = np.stack([play.step(key).tokens_hw for key in keys])
    assert (made[1:] == played).mean() > 0.99


def test_what_cannot_be_done_is_one_sentence(pipeline: VideoPipeline) -> None:
    with pytest.raises(ValueError, match="not both"):
        GenerateRequest(action="door-open", actions=("pan-left",))
    with pytest.raises(ValueError, match="longer than the 16 new frames"):
        pipeline.generate(actions=["door-open"] * 5)
    with pytest.raises(ValueError, match="unknown action 'fly'"):
        pipeline.generate(actions=["door-open", "fly"])
    with pytest.raises(ValueError, match="one action per clip"):
        build_pipeline().generate(actions=["door-open"])


def test_129_frames_need_the_cache_of_33(pipeline: VideoPipeline) -> None:
    caches = {
        num_frames: max(
            step.cache_bytes
            for step in steps_of(
                pipeline, GenerateRequest(num_frames=num_frames, sampling=ROWS, action="door-open")
            )
        )
        for num_frames in (33, 129)
    }
    assert caches[33] == caches[129]


def test_playing_needs_no_more_memory_the_longer_it_is(pipeline: VideoPipeline) -> None:
    whole = replace(ROWS, block_shape=(1, 16, 16))
    with pipeline.play(FRAMES[0], "arm", whole) as play:
        for _ in range(20):
            play.step("left")
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(60):
            play.step("left")
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # A key and its name in the recording; frames of 196,608 bytes each would be seen.
    assert after - before < 60 * 1000


def test_a_stopped_clip_keeps_what_it_has(pipeline: VideoPipeline) -> None:
    request = GenerateRequest(action="door-open", num_frames=65, sampling=ROWS)
    with pipeline.start(request) as run:
        for step in run:
            if step.places.max() >= 256 * 9:
                break
    made = run.generation()
    assert not made.is_complete
    assert len(made.tokens_thw) >= 8
    assert len(made.frames_THWC) == 1 + 4 * (len(made.tokens_thw) - 1)


def test_the_command_makes_a_clip_of_a_timeline(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = save_pipeline(tmp_path, CONFIG), tmp_path / "clip.mp4"
    common = ["generate", "--model", str(model), "--block", "1x16x16", "--device", "cpu"]
    common += ["--out", str(out), "--scale", "1", "--json"]
    assert main([*common, "--actions", "door-open*4 drawer-close*5"]) == 0
    assert json.loads(capsys.readouterr().out)["manifest"]["actions"] == (
        "door-open*4 drawer-close*5"
    )
    assert read_video(out)[0].shape == (37, 128, 128, 3)
    assert main([*common, "--action", "door-open"]) == 0
    assert len(read_video(out)[0]) == CLIP_FRAMES
    capsys.readouterr()
    assert main([*common, "--actions", "door-open*9", "--frames", "33"]) == 2
    assert "longer than the 32 new frames" in capsys.readouterr().err
    assert main([*common, "--actions", "door-open*x"]) == 2
    assert "number of times" in capsys.readouterr().err


def test_an_action_lasts_a_latent_frame_of_any_tokenizer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    halves = replace(tokenizer_config(), strides=((2, 2, 2), (1, 1, 1)))
    monkeypatch.setattr("tests.support.models.tokenizer_config", lambda: halves)
    model, out = save_pipeline(tmp_path, CONFIG), tmp_path / "clip.mp4"
    command = ["generate", "--model", str(model), "--block", "1x16x16", "--device", "cpu"]
    assert main([*command, "--out", str(out), "--actions", "door-open*2 drawer-close"]) == 0
    assert len(read_video(out)[0]) == 1 + 2 * 3


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("folder", bundled_with_a_window())
def test_129_frames_keep_their_sharpness(folder: Path) -> None:
    """Neither a collapse to noise nor to a blur, of the bundled models that have a window."""
    pipeline = VideoPipeline.from_pretrained(folder, device="cpu")
    rows = SamplingConfig(block_shape=(1, 1, 16), temperature=0.6, seed=1)
    frames = pipeline.generate("drawer-open", num_frames=129, sampling=rows).frames_THWC
    begin, end = (mean_sharpness(frames[None, part]) for part in (slice(17, 57), slice(89, 129)))
    assert 0.7 < end / begin < 1.4
    assert abs(float(frames[:17].mean()) - float(frames[-17:].mean())) < 25


@pytest.mark.parametrize("has_window", [False, True])
def test_a_length_that_nobody_could_wait_for_is_refused(has_window: bool) -> None:
    with pytest.raises(
        ValueError, match=r"^a clip may have at most 399,997 frames, not 4,000,000,"
    ):
        plan_segments(0, 4 * 10**9 + 1, 5, tokenizer_config(), has_window)
    assert plan_segments(0, 399_997, 5, tokenizer_config(), has_window)
