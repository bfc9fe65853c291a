"""A clip that answers to keys: same start, seed and keys, same frames."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nbp_core.cli.main import main
from nbp_core.cli.play import read_keys
from nbp_core.config.sampling import SamplingConfig
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.recording import MAX_BYTES, PlayRecording, read_recording
from nbp_core.media.video import read_video, write_video
from nbp_core.sampling.window import WindowSampler
from tests.support.models import (
    build_tokenizer,
    build_transformer,
    save_pipeline,
    transformer_config,
)

ARM = ("stay", "left", "right", "stay+grip", "left+grip")
CONFIG = replace(
    transformer_config(),
    actions=("drawer-open", "pan-left", "zoom-in"),
    keys=(*ARM, "still"),
    num_conditions=10,
    frame_conditions=True,
    window=4,
)
ROWS = SamplingConfig(block_shape=(1, 16, 16), seed=3)
FRAME = np.random.default_rng(0).integers(0, 255, (90, 120, 3)).astype(np.uint8)
ROWS_OF_RECORDING = SamplingConfig(block_shape=(1, 16, 16))
KEYS = ["left", "left+grip", "stay", "left", "stay", "left", "left+grip"]


@pytest.fixture(scope="module")
def pipeline() -> VideoPipeline:
    return VideoPipeline(build_transformer(CONFIG), build_tokenizer())


def frames_of(pipeline: VideoPipeline, keys: list[str], sampling: SamplingConfig) -> np.ndarray:
    with pipeline.play(FRAME, "arm", sampling) as play:
        return np.stack([play.step(key).frames_THWC for key in keys])


def test_each_world_has_its_keys(pipeline: VideoPipeline) -> None:
    with pipeline.play(FRAME, "arm", ROWS) as play:
        assert play.keys == ARM
        assert play.first_frame_HWC.shape == (128, 128, 3)
    with pipeline.play(FRAME, "camera", ROWS) as play:
        assert play.keys == ("still", "pan-left", "zoom-in")


def test_a_key_makes_four_frames(pipeline: VideoPipeline) -> None:
    with pipeline.play(FRAME, "arm", replace(ROWS, block_shape=(1, 4, 16))) as play:
        step = play.step("left")
        assert step.frames_THWC.shape == (4, 128, 128, 3)
        assert step.frames_THWC.dtype == np.uint8
        assert step.tokens_hw.shape == (16, 16)
        assert step.num_steps == 4
        assert step.sample_s > 0
        assert step.decode_s > 0


def test_the_same_start_seed_and_keys_give_the_same_frames(pipeline: VideoPipeline) -> None:
    one = frames_of(pipeline, KEYS, ROWS)
    assert np.array_equal(one, frames_of(pipeline, KEYS, ROWS))
    assert not np.array_equal(one, frames_of(pipeline, KEYS, replace(ROWS, seed=4)))
    assert np.array_equal(one[:3], frames_of(pipeline, KEYS[:3], ROWS))


def test_frames_are_those_of_the_tokens_in_one_piece(pipeline: VideoPipeline) -> None:
    """The decoder's state is carried on, not begun anew."""
    with pipeline.play(FRAME, "arm", ROWS) as play:
        first = pipeline.tokenize(FRAME[None])
        steps = [play.step(key) for key in KEYS]
        frames = np.concatenate([play.first_frame_HWC[None], *(s.frames_THWC for s in steps)])
    tokens = np.concatenate([first, np.stack([step.tokens_hw for step in steps])])
    whole = pipeline.tokenizer.decode(torch.from_numpy(tokens)[None])[0]
    expected = (whole * 255).round().permute(1, 2, 3, 0).numpy()
    assert np.abs(frames.astype(int) - expected).max() <= 1


def test_a_play_has_the_guidance_of_its_model_unless_it_is_given_another(
    pipeline: VideoPipeline,
) -> None:
    config = replace(CONFIG, key_guidance=3.0)
    guided = VideoPipeline(build_transformer(config), build_tokenizer())
    by_itself, plain = frames_of(guided, KEYS, ROWS), frames_of(pipeline, KEYS, ROWS)
    assert not np.array_equal(by_itself, plain)
    assert np.array_equal(by_itself, frames_of(pipeline, KEYS, replace(ROWS, guidance_scale=3.0)))
    assert np.array_equal(plain, frames_of(guided, KEYS, replace(ROWS, guidance_scale=1.0)))


def test_a_recording_keeps_the_guidance_that_was_played_with(pipeline: VideoPipeline) -> None:
    config = replace(CONFIG, key_guidance=3.0)
    guided = VideoPipeline(build_transformer(config), build_tokenizer())
    with guided.play(FRAME, "arm", ROWS) as play:
        frames = [play.step(key).frames_THWC for key in KEYS[:2]]
        play.change(replace(ROWS, temperature=0.5))
        frames.append(play.step(KEYS[2]).frames_THWC)
        recording = play.recording()
    scales = [recording.sampling, *(change.sampling for change in recording.changes)]
    assert [sampling.guidance_scale for sampling in scales] == [3.0, 3.0]
    with pipeline.play_recording(recording) as again:
        made = [step.frames_THWC for step in again.replay(recording)]
    assert np.array_equal(made, frames)


def test_a_key_beyond_the_reach_moves_nothing(pipeline: VideoPipeline) -> None:
    config = replace(CONFIG, key_reach=(("left", 2, "right", 1),))
    limited = VideoPipeline(build_transformer(config), build_tokenizer())
    pressed = ["left", "left", "left", "left+grip", "right", "left", "left"]
    followed = ["left", "left", "stay", "stay+grip", "right", "left", "stay"]
    with limited.play(FRAME, "arm", ROWS) as play:
        steps = [play.step(key) for key in pressed]
        recording = play.recording()
    assert [step.key for step in steps] == followed
    frames = np.stack([step.frames_THWC for step in steps])
    assert np.array_equal(frames, frames_of(pipeline, followed, ROWS))
    for again in (limited, pipeline):
        with again.play_recording(recording) as play:
            assert np.array_equal([s.frames_THWC for s in play.replay(recording)], frames)
    with limited.play(FRAME, "arm", ROWS) as play:
        assert [play.step(key).key for key in ("right", "right")] == ["right", "stay"]


@pytest.mark.parametrize("broken", ["sampler", "decoder"])
def test_after_a_fault_in_the_middle_the_play_goes_on_and_its_recording_is_right(
    broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, key_reach=(("left", 2, "right", 2),))
    limited = VideoPipeline(build_transformer(config), build_tokenizer())
    sampling = replace(ROWS, block_shape=(1, 4, 16))
    block, decode = WindowSampler._block, limited.tokenizer.decode

    def half_a_frame(self: WindowSampler, *arguments: Any) -> torch.Tensor:
        if arguments[-1] == 2:
            raise MemoryError
        return block(self, *arguments)

    def decoded_in_vain(*arguments: Any) -> torch.Tensor:
        decode(*arguments)
        raise MemoryError

    keys = ["left"] * 4
    with limited.play(FRAME, "arm", sampling) as play:
        undisturbed = [play.step(key) for key in keys]
    with limited.play(FRAME, "arm", sampling) as play:
        steps = [play.step(keys[0])]
        with monkeypatch.context() as patched:
            if broken == "sampler":
                patched.setattr(WindowSampler, "_block", half_a_frame)
            else:
                patched.setattr(limited.tokenizer, "decode", decoded_in_vain)
            for _ in range(2):
                with pytest.raises(MemoryError):
                    play.step(keys[1])
        steps += [play.step(key) for key in keys[1:]]
        recording = play.recording()
    assert recording.pressed == ("left", "left", "stay", "stay")
    assert np.array_equal([s.tokens_hw for s in steps], [s.tokens_hw for s in undisturbed])
    frames = [step.frames_THWC for step in steps]
    assert np.array_equal(frames, [step.frames_THWC for step in undisturbed])
    with limited.play_recording(recording) as play:
        assert np.array_equal([s.frames_THWC for s in play.replay(recording)], frames)


def test_keys_of_older_recordings_are_followed_whatever_the_reach(pipeline: VideoPipeline) -> None:
    with pipeline.play(FRAME, "arm", ROWS) as play:
        frames = np.stack([play.step("left").frames_THWC for _ in range(3)])
        recording = play.recording()
    config = replace(CONFIG, key_reach=(("left", 1, "right", 1),))
    limited = VideoPipeline(build_transformer(config), build_tokenizer())
    with limited.play_recording(recording) as play:
        assert np.array_equal([s.frames_THWC for s in play.replay(recording)], frames)


def test_a_model_without_a_key_for_rest_says_so_beyond_its_reach() -> None:
    config = replace(CONFIG, keys=("left", "right", "still"), key_reach=(("left", 0, "right", 0),))
    limited = VideoPipeline(build_transformer(config), build_tokenizer())
    with limited.play(FRAME, "arm", ROWS) as play, pytest.raises(ValueError, match="key 'stay'"):
        play.step("left")


@pytest.mark.parametrize("axis", [("up", 1, "right", 1), ("left", -1, "right", 1)])
def test_a_reach_is_of_known_keys_and_not_negative(axis: tuple[str, int, str, int]) -> None:
    with pytest.raises(ValueError, match="key_reach must name keys"):
        replace(CONFIG, key_reach=(axis,))


def test_a_clip_has_no_guidance_unless_it_is_given_some() -> None:
    config = replace(CONFIG, key_guidance=3.0)
    guided = VideoPipeline(build_transformer(config), build_tokenizer())
    clip, plain = (
        guided.generate("drawer-open", num_frames=5, sampling=sampling)
        for sampling in (ROWS, replace(ROWS, guidance_scale=1.0))
    )
    assert np.array_equal(clip.tokens_thw, plain.tokens_thw)
    assert clip.manifest["sampling"]["guidance_scale"] == 1.0


def test_without_a_first_frame_the_arm_starts_in_a_scene(pipeline: VideoPipeline) -> None:
    with pipeline.play(sampling=ROWS) as play:
        assert play.step("stay").frames_THWC.shape == (4, 128, 128, 3)
    with pytest.raises(ValueError, match="the camera world needs a first frame"):
        pipeline.play(world="camera")


@pytest.mark.parametrize(
    "actions", [("pan-left", "open a door"), ("zoom-in", "pan-left"), ("pan-left", "drawer-open")]
)
def test_the_scene_of_a_new_play_is_of_an_action_that_the_model_knows(
    actions: tuple[str, ...],
) -> None:
    config = replace(CONFIG, actions=actions, num_conditions=len(actions) + len(CONFIG.keys) + 1)
    pipeline = VideoPipeline(build_transformer(config), build_tokenizer())
    wanted = None if actions[0] == "zoom-in" else actions[1]
    with pipeline.play(sampling=ROWS) as play:
        play.step("stay")
        first_frame = play.recording().first_frame
    made = pipeline.generate(wanted, num_frames=1, sampling=ROWS)
    assert np.array_equal(first_frame, made.tokens_thw[0])


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ((), "has no keys for the arm world$"),
        (("still",), "has no keys for the arm world, only for the camera world$"),
    ],
)
def test_a_model_without_keys_of_the_arm_says_so_before_it_makes_a_scene(
    keys: tuple[str, ...], sentence: str
) -> None:
    config = replace(CONFIG, actions=("jump", "pan-left"), keys=keys, num_conditions=3 + len(keys))
    pipeline = VideoPipeline(build_transformer(config), build_tokenizer())
    with pytest.raises(ValueError, match=sentence):
        pipeline.play(sampling=ROWS)


def test_what_cannot_be_done_is_one_sentence(pipeline: VideoPipeline) -> None:
    with pipeline.play(FRAME, "arm", ROWS) as play:
        with pytest.raises(ValueError, match="unknown key 'jump'"):
            play.step("jump")
        play.close()
        with pytest.raises(ValueError, match="over"):
            play.step("left")
    with pytest.raises(ValueError, match="world must be one of arm, camera"):
        pipeline.play(FRAME, "moon")  # type: ignore[arg-type]
    old = VideoPipeline(build_transformer(transformer_config()), build_tokenizer())
    with pytest.raises(ValueError, match="has no keys for the arm world"):
        old.play(FRAME, "arm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("play")
    return save_pipeline(folder, CONFIG)


def test_the_command_makes_the_same_clip_twice(folder: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("left*2 stay\nleft+grip\n")
    outs = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for out in outs:
        options = ["--block", "1x16x16", "--scale", "1", "--device", "cpu"]
        files = ["--model", str(folder), "--keys", str(keys), "--out", str(out)]
        assert main(["play", *files, *options]) == 0
    first, second = (read_video(out)[0] for out in outs)
    assert first.shape == (17, 128, 128, 3)
    assert np.array_equal(first, second)
    recorded = read_recording(outs[0])
    assert recorded.keys == "left*2 stay left+grip"
    assert recorded.world == "arm"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" ", "no name"),
        ("", "is empty"),
        ("left*x", "number of times"),
        ("jump", "unknown key 'jump'"),
    ],
)
def test_bad_keys_are_one_sentence(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    keys, out = tmp_path / "keys.txt", tmp_path / "a.mp4"
    keys.write_text(text)
    assert main(["play", "--model", str(folder), "--keys", str(keys), "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_keys_may_be_repeated_by_a_number(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.write_text("left*3\tstay left+grip*2")
    assert read_keys(path) == ("left",) * 3 + ("stay",) + ("left+grip",) * 2
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="cannot be read"):
        read_keys(path)
    path.write_bytes(b"left " * MAX_BYTES)
    with pytest.raises(ValueError, match="too large"):
        read_keys(path)


def test_a_byte_order_mark_before_keys_or_a_recording_is_ignored(
    pipeline: VideoPipeline, tmp_path: Path
) -> None:
    """Windows' own editor writes one."""
    keys, recording = tmp_path / "keys.txt", tmp_path / "play.json"
    keys.write_text("left*2 stay", encoding="utf-8-sig")
    assert read_keys(keys) == ("left", "left", "stay")
    played, _ = recorded(pipeline)
    recording.write_text(json.dumps(played.to_dict()), encoding="utf-8-sig")
    assert read_keys(recording) == played


def test_keys_are_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("h\u00f6her", encoding="utf-8")
    program = "import sys; from pathlib import Path; from nbp_core.cli.play import read_keys;"
    program += "print(ascii(read_keys(Path(sys.argv[1]))))"
    said = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", program, str(keys)],
        env={**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert said.stdout == "('h\\xf6her',)\n"


@pytest.mark.parametrize("name", ["a.gif", "a", "a.mp4.txt"])
def test_a_play_is_written_as_mp4_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("left")
    files = ["--model", str(tmp_path), "--keys", str(keys), "--out", str(tmp_path / name)]
    assert main(["play", *files]) == 2
    assert capsys.readouterr().err == f"--out must end in .mp4, not {name!r}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["keys.txt"]


def recorded(pipeline: VideoPipeline) -> tuple[PlayRecording, np.ndarray]:
    """A play whose settings change on the way, and its frames."""
    with pipeline.play(FRAME, "arm", ROWS) as play:
        frames = [play.step(key).frames_THWC for key in KEYS[:3]]
        play.change(replace(ROWS, block_shape=(1, 4, 16), temperature=0.5))
        frames += [play.step(key).frames_THWC for key in KEYS[3:]]
        return play.recording("noise"), np.stack(frames)


def test_a_recording_is_small_and_replays_to_the_same_frames(
    pipeline: VideoPipeline, tmp_path: Path
) -> None:
    recording, frames = recorded(pipeline)
    recording.write(tmp_path / "play.json")
    assert (tmp_path / "play.json").stat().st_size < 4000
    found = read_recording(tmp_path / "play.json")
    assert found == recording
    assert found.differences(pipeline.fingerprint) == []
    with pipeline.play_recording(found) as play:
        again = np.stack([step.frames_THWC for step in play.replay(found)])
        assert play.recording("noise") == recording
    assert np.array_equal(again, frames)
    assert not np.array_equal(again, frames_of(pipeline, KEYS, ROWS))  # the change was heard


def test_other_weights_are_said_to_give_other_frames(pipeline: VideoPipeline) -> None:
    recording, _ = recorded(pipeline)
    other = replace(pipeline.fingerprint, sha256="abc", weight_format="int8")
    weights, held = recording.differences(other)
    assert "other weights" in weights
    assert "another format" in held
    unlike = replace(recording, fingerprint=replace(recording.fingerprint, tokenizer_sha256="abc"))
    with pytest.raises(ValueError, match="another tokenizer"):
        pipeline.play_recording(unlike)
    beyond = replace(recording, first_frame=((60,) * 16,) * 16)
    with pytest.raises(ValueError, match="lacks"):
        pipeline.play_recording(beyond)


def test_before_the_first_key_there_is_nothing_to_record(pipeline: VideoPipeline) -> None:
    with pipeline.play(FRAME, "arm", ROWS) as play, pytest.raises(ValueError, match="no key"):
        play.recording()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": 3}, "keys must be text"),
        ({"keys": "left*x"}, "number of times"),
        ({"world": "moon"}, "world must be"),
        ({"first_frame": [[1, 2], [3]]}, "equally many"),
        ({"first_frame": [[-1]]}, "every token"),
        ({"first_frame": [[10**400]]}, "every token"),
        ({"keys": "left*0", "changes": []}, "number of times"),
        ({"keys": "", "changes": []}, "no name"),
        ({"changes": [{"key": 0, "sampling": {}}] * 10_001}, "10,000 changes"),
        ({"sampling": {"temperature": "hot"}}, "sampling.temperature must be a number"),
        ({"changes": [{"key": 9, "sampling": {}}]}, "key must be 0 to 7"),
        (
            {"changes": [{"key": 6, "sampling": {"block_shape": [1, 3, 16]}}]},
            "block shape 1x3x16 does not tile the 1x16x16 grid",
        ),
        ({"changes": [{"key": 6, "sampling": {"block_shape": [2, 1, 8]}}]}, "block shape 2x1x8"),
        ({"sampling": {"block_shape": [1, 16, 32]}}, "block shape 1x16x32"),
        ({"format": 2}, "format must be 1, not 2"),
        ({"code": "x"}, "unknown setting 'code'"),
    ],
)
def test_a_wrong_recording_is_one_sentence(
    pipeline: VideoPipeline, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "play.json"
    path.write_text(json.dumps(recorded(pipeline)[0].to_dict() | change))
    with pytest.raises(ValueError, match=message) as error:
        read_recording(path)
    assert "play.json" in str(error.value)


def test_a_recording_of_many_changes_holds_nobody_up(
    pipeline: VideoPipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its keys are read once, not for every change; and at a key only one change is followed."""
    path = tmp_path / "play.json"
    changes = [{"key": 0, "sampling": {"block_shape": [1, 16, 16]}}] * 5_000
    data = recorded(pipeline)[0].to_dict() | {"keys": "left stay", "changes": changes}
    parsed: list[str] = []

    def parse(text: str) -> tuple[str, ...]:
        parsed.append(text)
        return tuple(text.split())

    monkeypatch.setattr("nbp_core.generation.recording.parse_timeline", parse)
    path.write_text(json.dumps(data))
    recording = read_recording(path)
    assert len(parsed) == 1
    with pipeline.play_recording(recording) as play:
        followed: list[SamplingConfig] = []
        monkeypatch.setattr(play, "change", followed.append)
        assert len(list(play.replay(recording))) == 2
        assert followed == [ROWS_OF_RECORDING]


def test_the_last_of_several_changes_before_a_key_counts(pipeline: VideoPipeline) -> None:
    with pipeline.play(FRAME, "arm", ROWS) as play:
        frames = [play.step("left").frames_THWC]
        for temperature in (0.2, 0.9, 0.5):
            play.change(replace(ROWS, block_shape=(1, 4, 16), temperature=temperature))
        frames.append(play.step("stay").frames_THWC)
        recording = play.recording()
    assert [change.sampling.temperature for change in recording.changes] == [0.5]
    with pipeline.play_recording(recording) as play:
        again = [step.frames_THWC for step in play.replay(recording)]
    assert np.array_equal(np.stack(again), np.stack(frames))


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000])
def test_what_is_no_recording_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "play.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"play\.json"):
        read_recording(path)
    with pytest.raises(ValueError, match="does not exist"):
        read_recording(tmp_path / "none.json")


def test_the_command_says_how_many_keys_lead_out_of_reach(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(CONFIG, key_reach=(("left", 1, "right", 1),))
    limited = save_pipeline(tmp_path / "models", config)
    keys, out = tmp_path / "keys.txt", tmp_path / "play.mp4"
    keys.write_text("left*3 right")
    command = ["play", "--model", str(limited), "--device", "cpu"]
    assert main([*command, "--keys", str(keys), "--out", str(out), "--block", "1x16x16"]) == 0
    assert "2 of 4 keys lead out of the arm's reach" in capsys.readouterr().err
    assert read_recording(out).keys == "left stay*2 right"
    assert main([*command, "--keys", str(out), "--out", str(out)]) == 0
    assert "reach" not in capsys.readouterr().err


def test_the_command_records_and_replays(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys, record = tmp_path / "keys.txt", tmp_path / "play.json"
    keys.write_text("left*2 stay")
    first, second, third = (tmp_path / f"{name}.mp4" for name in "abc")
    common = ["play", "--model", str(folder), "--scale", "1", "--device", "cpu"]
    settings = ["--seed", "5", "--block", "1x16x16", "--record", str(record)]
    assert main([*common, "--keys", str(keys), "--out", str(first), *settings]) == 0
    assert main([*common, "--keys", str(record), "--out", str(second)]) == 0
    assert main([*common, "--keys", str(first), "--out", str(third)]) == 0
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()
    again = [*common, "--keys", str(record), "--out", str(second), "--seed", "1"]
    assert main(again) == 2
    assert "leave these options out" in capsys.readouterr().err
    int8 = [*common, "--keys", str(record), "--out", str(second), "--int8"]
    assert main(int8) == 0
    assert "frames may differ" in capsys.readouterr().err


def test_the_command_plays_beside_the_simulator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys beyond the reach of a play are followed, as the simulator has followed them."""
    config = replace(CONFIG, key_reach=(("left", 1, "right", 1),))
    folder = save_pipeline(tmp_path / "models", config)
    rng = np.random.default_rng(1)
    simulated = rng.integers(0, 255, (9, 16, 16, 3)).astype(np.uint8).repeat(8, 1).repeat(8, 2)
    episode, out = tmp_path / "episode.json", tmp_path / "beside.mp4"
    write_video(episode.with_suffix(".mp4"), simulated, pixel_format="yuv444p")
    episode.write_text(json.dumps({"scene": "soccer", "look": "stock", "keys": "left left+grip"}))
    common = ["play", "--model", str(folder), "--device", "cpu", "--block", "1x16x16"]
    beside = [*common, "--episode", str(episode), "--out", str(out), "--scale", "1"]
    assert main([*beside, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {name: len(values) for name, values in report["psnr"].items()} == {
        "model": 2, "tokenizer": 2, "first frame held still": 2,
    }  # fmt: skip
    frames = read_video(out)[0]
    assert frames.shape == (9, 128, 256, 3)
    assert np.abs(frames[:, :, :128].astype(int) - simulated).mean() < 12
    assert read_recording(out).pressed == ("left", "left+grip")
    assert main([*beside, "--world", "camera"]) == 2
    assert "has its own start" in capsys.readouterr().err
