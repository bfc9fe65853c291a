"""Readers of keys: they name what moved, in real episodes and in those a model makes."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nbp_core.cli.main import main
from nbp_core.config.sampling import SamplingConfig
from nbp_core.data.arm_keys import ARM_KEYS, KEYS_PER_EPISODE, PLAYER_KEYS
from nbp_core.data.camera_keys import PanoramaKeys, draw_many
from nbp_core.data.clips import ClipSet
from nbp_core.data.key_frames import (
    READ_SIDE,
    direction,
    key_pairs,
    key_reader_config,
    latent_frames,
    load_key_pairs,
)
from nbp_core.data.keys import KeyClip
from nbp_core.data.metaworld import add_clip
from nbp_core.evaluation.classifier import ActionClassifier
from nbp_core.evaluation.figures import Figure
from nbp_core.evaluation.keys import (
    GENERATED,
    REAL,
    RECONSTRUCTED,
    Episodes,
    arm_figures,
    camera_figures,
    keys_read,
    play_episodes,
    psnr_over_time,
)
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.media.files import Frames
from nbp_core.media.video import write_strip
from nbp_core.results.files import read_result
from nbp_core.train.classifier import mirrored, train_classifier
from nbp_core.train.loop.trainer import TrainConfig
from tests.support.models import (
    build_tokenizer,
    build_transformer,
    save_pipeline,
    transformer_config,
)

CONFIG = replace(
    transformer_config(),
    actions=("drawer-open", "pan-left", "pan-right", "pan-up", "pan-down"),
    keys=(*PLAYER_KEYS, "still"),
    num_conditions=21,
    frame_conditions=True,
    window=4,
)
FULL = SamplingConfig(block_shape=(1, 16, 16), seed=3)
STEPS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "stay": (0, 0)}
READER = replace(key_reader_config("reader"), actions=tuple(sorted(STEPS)), widths=(8, 16, 16))


def episode(seed: int, side: int = 64, count: int = 8) -> KeyClip:
    """A square that keys move over a still, textured background."""
    rng = np.random.default_rng(seed)
    keys = [str(key) for key in rng.choice(sorted(STEPS), count)]
    background = rng.integers(60, 110, (side, side, 3)).astype(np.uint8)
    colour, size = rng.integers(160, 255, 3), side // 4
    place = np.array([(side - size) // 2] * 2)
    frames: list[Frames] = []
    for key in ("stay", *keys):
        for _ in range(1 if not frames else 4):
            place = (place + np.array(STEPS[key])).clip(0, side - size)
            frame = background.copy()
            frame[place[1] : place[1] + size, place[0] : place[0] + size] = colour
            frames.append(frame)
    return KeyClip(frames_THWC=np.stack(frames), keys=tuple(keys), look="arm-stock")


def pairs(seeds: range) -> ClipSet:
    clips = [episode(seed) for seed in seeds]
    frames = np.concatenate([latent_frames(clip.frames_THWC) for clip in clips])
    names = [key for clip in clips for key in clip.keys]
    return ClipSet(frames, names, [""] * len(names))


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> ActionClassifier:
    folder = tmp_path_factory.mktemp("reader")
    config = TrainConfig(steps=60, lr=5e-3, batch_size=32, warmup_steps=5, ema_decay=0.9)
    for _ in train_classifier(READER, config, folder, pairs(range(40)), pairs(range(40, 44))):
        continue
    return ActionClassifier.from_pretrained(folder / "model")


@pytest.fixture(scope="module")
def pipeline() -> VideoPipeline:
    return VideoPipeline(build_transformer(CONFIG), build_tokenizer())


def still(clip: KeyClip) -> KeyClip:
    frames = np.repeat(clip.frames_THWC[:1], len(clip.frames_THWC), 0)
    return replace(clip, frames_THWC=frames)


def named(figures: list[Figure], metric: str, of: str) -> float:
    return next(f.value for f in figures if (f.metric, f.of) == (metric, of))


def test_a_latent_frame_is_seen_from_its_start_to_its_end() -> None:
    frames = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((1, 8, 8, 3), np.uint8)
    found = latent_frames(frames, side=4)
    assert found.shape == (2, 3, 4, 4, 3)
    assert found[:, :, 0, 0, 0].tolist() == [[0, 2, 4], [4, 6, 8]]
    assert direction("left+grip") == "left"


def test_a_reader_names_keys_and_not_where_nothing_moves(reader: ActionClassifier) -> None:
    clips = [episode(seed) for seed in range(100, 106)]
    assert np.mean([keys_read(reader, clip) for clip in clips]) >= 0.9
    stays = np.concatenate([np.array(clip.keys) == "stay" for clip in clips])
    frozen = np.concatenate([keys_read(reader, still(clip)) for clip in clips])
    assert frozen[stays].mean() >= 0.9
    assert frozen[~stays].mean() <= 0.2


def test_a_mirror_swaps_left_and_right() -> None:
    swapped = mirrored(ARM_KEYS)
    assert swapped is not None
    assert [ARM_KEYS[i] for i in swapped] == [
        "stay", "right", "left", "away", "near", "up", "down",
    ]  # fmt: skip
    assert mirrored(("door-open", "drawer-close")) is None


def test_figures_tell_obeyed_keys_from_others(reader: ActionClassifier) -> None:
    real = [episode(seed) for seed in range(100, 104)]
    real[0] = replace(real[0], look="arm-varied")
    episodes = Episodes(real=real, reconstructed=real, generated=[still(clip) for clip in real])
    figures = arm_figures(reader, episodes)
    assert named(figures, "arm keys read right", REAL) >= 0.9
    assert named(figures, "arm keys read right", GENERATED) < 0.5
    looks = [named(figures, "arm keys read right", f"{REAL}, {clip.look} look") for clip in real]
    assert named(figures, "arm keys read right", REAL) == pytest.approx(np.mean(looks))
    after = "PSNR after 4 latent frames"
    assert named(figures, after, GENERATED) == named(figures, after, "first frames held still")
    assert named(figures, after, GENERATED) < named(figures, after, RECONSTRUCTED)


def test_psnr_over_time_is_that_of_each_latent_frame() -> None:
    clip = episode(1)
    frames = clip.frames_THWC.copy()
    frames[5:] = frames[5:] // 2
    found = psnr_over_time(clip, replace(clip, frames_THWC=frames))
    assert len(found) == 8
    assert found[0] == 60
    assert max(found[1:]) < 20


@pytest.fixture
def panoramas(tmp_path: Path) -> Path:
    folder = tmp_path / "panoramas"
    folder.mkdir()
    coarse = np.random.default_rng(0).integers(0, 255, (32, 64, 3)).astype(np.uint8)
    write_strip(folder / "place.png", coarse.repeat(8, 0).repeat(8, 1)[None])
    return folder


def test_a_pan_is_measured_the_way_of_its_key(panoramas: Path) -> None:
    real = list(draw_many(PanoramaKeys(panoramas), 4, 8, 0))
    backwards = [replace(c, frames_THWC=c.frames_THWC[::-1], keys=c.keys[::-1]) for c in real]
    episodes = Episodes(real=real, reconstructed=backwards, generated=[still(c) for c in real])
    figures = camera_figures(episodes)
    assert named(figures, "pan keys obeyed", REAL) == 1
    assert named(figures, "shift of a pan key, median", REAL) == pytest.approx(8, abs=0.2)
    assert named(figures, "pan keys obeyed", RECONSTRUCTED) == 0
    assert named(figures, "pan keys obeyed", GENERATED) == 0


def test_a_model_plays_episodes_the_same_twice(pipeline: VideoPipeline) -> None:
    clips = [episode(seed, side=128, count=3) for seed in range(2)]
    one, other = (play_episodes(pipeline, clips, "arm", FULL) for _ in range(2))
    for a, b in zip(one.generated, other.generated, strict=True):
        assert np.array_equal(a.frames_THWC, b.frames_THWC)
        assert a.frames_THWC.shape == (13, 128, 128, 3)
    made = pipeline.reconstruct(clips[1].frames_THWC).frames_THWC
    assert np.array_equal(one.reconstructed[1].frames_THWC, made)
    assert not np.array_equal(one.generated[0].frames_THWC, one.generated[1].frames_THWC)


def test_every_key_that_is_judged_was_played(pipeline: VideoPipeline) -> None:
    """A play keeps the arm within its reach, but an episode is judged by all of its keys."""
    clips = [replace(episode(0, side=128, count=3), keys=("left",) * 3)]
    config = replace(CONFIG, key_reach=(("left", 1, "right", 1),))
    limited = VideoPipeline(build_transformer(config), build_tokenizer())
    one, other = (play_episodes(made, clips, "arm", FULL) for made in (pipeline, limited))
    assert np.array_equal(one.generated[0].frames_THWC, other.generated[0].frames_THWC)


def test_pairs_are_real_and_reconstructed_and_made_once(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    clips = [episode(seed, side=128, count=2) for seed in range(2)]
    found = key_pairs(tokenizer, clips)
    assert found.frames_NTHWC.shape == (8, 3, READ_SIDE, READ_SIDE, 3)
    assert found.looks == ["real", "real", "reconstructed", "reconstructed"] * 2
    assert found.actions == [key for clip in clips for key in clip.keys * 2]
    file = tmp_path / "frames" / "val.npz"
    first = load_key_pairs(file, tokenizer, clips, "a")
    assert np.array_equal(first.frames_NTHWC, found.frames_NTHWC)
    again = load_key_pairs(file, tokenizer, [], "a")
    assert np.array_equal(again.frames_NTHWC, found.frames_NTHWC)
    assert (again.actions, again.looks) == (found.actions, found.looks)
    assert len(load_key_pairs(file, tokenizer, clips[:1], "b")) == 4
    for damaged in (b"damaged", b""):
        file.write_bytes(damaged)
        assert len(load_key_pairs(file, tokenizer, clips, "b")) == 8


def test_no_clips_with_keys_are_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="there are no clips with keys to reconstruct"):
        key_pairs(build_tokenizer(), [])


def shard(path: Path, seeds: range) -> None:
    with tarfile.open(path, "w") as tar:
        for seed in seeds:
            clip = episode(seed, side=128, count=KEYS_PER_EPISODE)
            label = {"look": "stock", "keys": clip.keys, "grip": [-1] * KEYS_PER_EPISODE}
            add_clip(tar, f"scene_{seed}", clip.frames_THWC, label)


def test_a_reader_is_trained_and_used_from_the_command_line(
    tmp_path: Path, panoramas: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_pipeline(tmp_path, CONFIG)
    episodes, run = tmp_path / "arm", tmp_path / "reader"
    episodes.mkdir()
    shard(episodes / "train-0000.tar", range(3))
    shard(episodes / "val-0000.tar", range(3, 5))
    arm = ["--arm-keys", str(episodes)]
    settings = ["--steps", "2", "--batch-size", "8", "--episodes", "2", "--run", str(run)]
    assert main(["train-key-reader", *arm, "--tokenizer", str(tmp_path / "nano"), *settings]) == 0
    out = tmp_path / "keys.json"
    common = ["evaluate", "--model", str(model), "--block", "1x16x16", "--device", "cpu"]
    reader = ["--key-reader", str(run / "model"), "--panoramas", str(panoramas)]
    count = ["--episodes", "1", "--out", str(out)]
    capsys.readouterr()
    assert main([*common, *arm, *reader, *count]) == 0
    rows = {(row["metric"], row["of"]): row for row in read_result(out).rows}
    assert rows["arm keys read right", GENERATED]["against"] == "reader reader, 16 latent frames"
    assert ("pan keys obeyed", REAL) in rows
    report = json.loads(out.read_text())
    assert report["real"] == "val episodes of arm; views of panoramas"
    assert main([*common, *arm]) == 2
    assert "--key-reader go together" in capsys.readouterr().err
    assert main(common) == 2
    assert "give real clips" in capsys.readouterr().err
