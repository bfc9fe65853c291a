"""The bundled episodes, and labels that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nbp_core.data.arm_keys import ARM_SCENES
from nbp_core.data.recorded import read_recorded, recorded_episodes
from nbp_core.media.files import MediaError
from nbp_core.media.video import write_video

PLAY = Path(__file__).parents[2] / "assets" / "play"


def test_eight_episodes_of_eight_scenes_are_bundled() -> None:
    found = recorded_episodes(PLAY)
    assert len(found) == 8
    assert {label.scene for label in found.values()} <= set(ARM_SCENES)
    assert len({label.scene for label in found.values()}) == 8
    assert sum(label.look == "stock" for label in found.values()) >= 6
    assert sum(path.stat().st_size for path in PLAY.iterdir()) < 600_000
    assert recorded_episodes(PLAY / "nowhere") == {}


@pytest.mark.parametrize("name", sorted(recorded_episodes(PLAY)))
def test_an_episode_moves_under_its_keys(name: str) -> None:
    clip = read_recorded(PLAY / f"{name}.json")
    assert clip.frames_THWC.shape == (65, 128, 128, 3)
    assert len(clip.keys) == 16
    change = np.abs(np.diff(clip.frames_THWC[::4].astype(int), axis=0)).max(-1) > 12
    assert change.mean() > 0.05


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ({"scene": "soccer", "look": "stock", "keys": "jump"}, "unknown key 'jump'"),
        ({"scene": "soccer", "look": "stock"}, "keys is missing"),
        ({"scene": "soccer", "look": "stock", "keys": "left*2"}, "has 5 frames, not the 9"),
    ],
)
def test_a_wrong_episode_is_one_sentence(tmp_path: Path, label: object, message: str) -> None:
    write_video(tmp_path / "a.mp4", np.zeros((5, 16, 16, 3), np.uint8))
    (tmp_path / "a.json").write_text(json.dumps(label))
    with pytest.raises(ValueError, match=message):
        read_recorded(tmp_path / "a.json")
    with pytest.raises(MediaError, match=r"no episode b\.json"):
        read_recorded(tmp_path / "b.json")


def test_an_episode_of_another_size_has_the_size_of_a_models_frames(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", np.zeros((5, 160, 200, 3), np.uint8))
    label = {"scene": "soccer", "look": "stock", "keys": "left"}
    (tmp_path / "a.json").write_text(json.dumps(label))
    assert read_recorded(tmp_path / "a.json").frames_THWC.shape == (5, 128, 128, 3)
