"""Keys move the hand as the camera sees it, and never out of reach."""

from __future__ import annotations

import io
import json
import math
import tarfile
from pathlib import Path

import numpy as np
import pytest

from nbp_core.data.arm_keys import (
    ARM_KEYS,
    BOUNDS,
    EPISODE_FRAMES,
    KEYS_PER_EPISODE,
    PLAYER_KEYS,
    ArmSplit,
    Wanderer,
    key_directions,
    leads_out,
    nearest_key,
    read_episodes,
    read_training_episodes,
    render_arm_keys,
    stopped,
)
from nbp_core.data.metaworld import add_clip
from nbp_core.media.files import MediaError
from nbp_core.media.video import write_video

AZIMUTHS = (116.0, 138.0, 160.0)


def on_screen(point: np.ndarray, azimuth: float, elevation: float = -28.0) -> np.ndarray:
    """(right, down) of a point, as MuJoCo's free camera looking at (0, 0.7, 0.2) sees it."""
    a, e = math.radians(azimuth), math.radians(elevation)
    forward = np.array([math.cos(a) * math.cos(e), math.sin(a) * math.cos(e), math.sin(e)])
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    seen = point - (np.array([0, 0.7, 0.2]) - 1.15 * forward)
    across, down = seen @ right, -(seen @ np.cross(right, forward))
    return np.array([across, down]) / float(seen @ forward)


@pytest.mark.parametrize("azimuth", AZIMUTHS)
def test_keys_move_as_the_camera_sees(azimuth: float) -> None:
    hand = np.array([0.0, 0.6, 0.2])
    moved = {
        key: on_screen(hand + 0.05 * way, azimuth) - on_screen(hand, azimuth)
        for key, way in key_directions(azimuth).items()
    }
    assert moved["left"][0] < -0.02
    assert moved["right"][0] > 0.02
    assert moved["up"][1] < -0.02
    assert moved["down"][1] > 0.02
    assert moved["away"][1] < -0.005
    assert moved["near"][1] > 0.005
    assert not moved["stay"].any()


def test_directions_are_of_length_one_and_opposite_in_pairs() -> None:
    ways = key_directions(138.0)
    assert list(ways) == list(ARM_KEYS)
    for one, other in (("left", "right"), ("away", "near"), ("up", "down")):
        np.testing.assert_allclose(ways[one], -ways[other])
        assert np.linalg.norm(ways[one]) == pytest.approx(1)


def test_wandering_stays_in_bounds_and_changes_the_grip() -> None:
    rng = np.random.default_rng(0)
    ways = key_directions(150.0)
    wanderer = Wanderer(ways, rng)
    hand = np.array([0.0, 0.6, 0.2])
    pressed = []
    for _ in range(2000):
        press = wanderer.next(hand)
        hand = hand + 0.06 * ways[press.key]  # less than a key is looked ahead
        pressed.append(press)
        assert (hand >= BOUNDS[:, 0]).all()
        assert (hand <= BOUNDS[:, 1]).all()
    assert {press.key for press in pressed} == set(ARM_KEYS)
    assert {press.grip for press in pressed} == {-1, 1}


def test_pressed_against_its_bounds_the_hand_stops_there() -> None:
    """Every key is drawn anywhere. The hand slides along a bound and never passes it."""
    rng = np.random.default_rng(0)
    ways = key_directions(150.0)
    wanderer = Wanderer(ways, rng, presses_bounds=True)
    hand = np.array([0.0, 0.6, 0.2])
    kept_back = slid = 0
    for _ in range(2000):
        way = ways[wanderer.next(hand).key]
        move = stopped(hand, way)
        kept_back += bool((move != way).any())
        slid += bool((move != way).any() and move.any())
        hand = hand + 0.06 * move
        assert (hand >= BOUNDS[:, 0]).all()
        assert (hand <= BOUNDS[:, 1]).all()
    assert kept_back > 200
    assert slid > 50


def test_outside_a_key_back_is_allowed() -> None:
    outside = np.array([0.0, 0.6, 0.5])
    assert leads_out(outside, np.array([0.0, 0.0, 1.0]))
    assert not leads_out(outside, np.array([0.0, 0.0, -1.0]))


def test_the_nearest_key_to_an_experts_move() -> None:
    ways = key_directions(138.0)
    for key in ARM_KEYS[1:]:
        wobbled = 3 * ways[key] + np.array([0.3, -0.2, 0.4])
        assert nearest_key(wobbled, ways) == key
    assert nearest_key(np.array([0.05, -0.09, 0.02]), ways) == "stay"


def test_episodes_are_read_with_grip_and_look(tmp_path: Path) -> None:
    frames = np.zeros((9, 128, 128, 3), np.uint8)
    label = {"scene": "soccer", "look": "stock", "fps": 16, "keys": ["up", "stay"], "grip": [1, -1]}
    with tarfile.open(tmp_path / "val-0000.tar", "w") as tar:
        add_clip(tar, "soccer_val_0000_0", frames, label)
    (clip,) = read_episodes(tmp_path, "val")
    assert clip.keys == ("up+grip", "stay")
    assert set(clip.keys) <= set(PLAYER_KEYS)
    assert clip.look == "arm-stock"
    assert clip.frames_THWC.shape == frames.shape
    with pytest.raises(MediaError, match="has no train-"):
        list(read_episodes(tmp_path, "train"))
    (tmp_path / "train-0000.tar").write_bytes(b"no tar" * 500)
    with pytest.raises(MediaError, match="is not a tar of episodes"):
        list(read_episodes(tmp_path, "train"))


def test_other_files_of_a_shard_of_episodes_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    label = {"scene": "soccer", "look": "stock", "fps": 16, "keys": ["up"], "grip": [-1]}
    with tarfile.open(tmp_path / "train-0000.tar", "w") as tar:
        add_clip(tar, "soccer_train_0000_0", np.zeros((5, 128, 128, 3), np.uint8), label)
        tar.addfile(tarfile.TarInfo("soccer_train_0000_1.webm"))
    assert len(list(read_episodes(tmp_path, "train"))) == 1
    assert caplog.messages == [
        f"1 file of {tmp_path.name} skipped, because they are neither a clip (.mp4) nor a label"
        " (.json): soccer_train_0000_1.webm"
    ]


def test_training_reads_the_episodes_at_the_bounds_too(tmp_path: Path) -> None:
    frames = np.zeros((5, 128, 128, 3), np.uint8)
    splits = {"train": "up", "val": "right", "bounds": "left"}
    for split, key in splits.items():
        label = {"scene": "soccer", "look": "stock", "fps": 16, "keys": [key], "grip": [-1]}
        with tarfile.open(tmp_path / f"{split}-0000.tar", "w") as tar:
            add_clip(tar, f"soccer_{split}_0000_0", frames, label)
    assert [clip.keys for clip in read_training_episodes(tmp_path)] == [("up",), ("left",)]


def test_an_unknown_scene_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="unknown scene 'kitchen'"):
        render_arm_keys(tmp_path, "val", 1, 0, scenes=("kitchen",))


@pytest.mark.slow
def test_episodes_are_the_same_again_and_splits_differ(tmp_path: Path) -> None:
    pytest.importorskip("metaworld")
    splits: dict[str, ArmSplit] = {"a": "val", "b": "val", "c": "recorded"}
    for name, split in splits.items():
        render_arm_keys(tmp_path / name, split, 1, 0, ("drawer-open",), per_scene=1)
    videos = []
    for path in sorted(tmp_path.glob("*/*.tar")):
        with tarfile.open(path) as tar:
            names = sorted(tar.getnames())
            label, video = (tar.extractfile(name) for name in names)
            assert label is not None
            assert video is not None
            videos.append(video.read())
            facts = json.load(label)
    assert videos[0] == videos[1] != videos[2]
    assert len(facts["keys"]) == len(facts["grip"]) == KEYS_PER_EPISODE
    assert EPISODE_FRAMES == 65


LABEL = {"scene": "soccer", "look": "stock", "fps": 16, "keys": ["up", "stay"], "grip": [1, -1]}


@pytest.mark.parametrize(
    ("video", "label", "reason"),
    [
        (b"no video", LABEL, "not a video that can be read"),
        (None, {**LABEL, "keys": ["up"], "grip": [1]}, "it has 9 frames, not the 5 of its keys"),
        (None, {**LABEL, "keys": ["up", "jump"]}, "it has an unknown key 'jump'"),
        (None, {**LABEL, "keys": [], "grip": []}, "it has no key"),
        (None, {**LABEL, "grip": [1]}, "its label is wrong or missing"),
        (None, [], "its label is wrong or missing"),
        (None, b"[" * 100_000, "its label is wrong or missing"),
        (None, None, "its label is wrong or missing"),
        ("shorter", {**LABEL, "keys": ["up"], "grip": [1]}, "it has 1 keys, and others have 2"),
    ],
)
def test_an_episode_that_cannot_be_used_is_left_out(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    video: bytes | str | None,
    label: object,
    reason: str,
) -> None:
    frames = np.zeros((9, 128, 128, 3), np.uint8)
    write_video(tmp_path / "a.mp4", frames[: 5 if video == "shorter" else 9])
    content = video if isinstance(video, bytes) else (tmp_path / "a.mp4").read_bytes()
    parts = {"b.mp4": content}
    if label is not None:
        parts["b.json"] = label if isinstance(label, bytes) else json.dumps(label).encode()
    with tarfile.open(tmp_path / "train-0000.tar", "w") as tar:
        for key in ("a", "c"):
            add_clip(tar, key, frames, LABEL)
        for name, data in parts.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    assert [len(clip.keys) for clip in read_episodes(tmp_path, "train")] == [2, 2]
    assert caplog.messages[0].startswith("b of train-0000.tar left out: ")
    assert reason in caplog.messages[0]
    assert caplog.messages[1] == f"1 of the 3 episodes of {tmp_path.name} left out"


def test_only_unusable_episodes_is_a_sentence(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "val-0000.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("a.mp4"))
    with pytest.raises(MediaError, match="has no val episode that can be read"):
        list(read_episodes(tmp_path, "val"))
