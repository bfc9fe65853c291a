"""Renders episodes of a robot arm moved by keys: Meta-World (MIT), keys as the camera sees them.

An episode has EPISODE_FRAMES frames and one key per latent frame: frame 0 is the reset, key k moves
the arm in frames 4k + 1 to 4k + 4. Half of the episodes follow Meta-World's scripted expert, so
that the arm touches things; the others wander. Output: tar shards in WebDataset's layout (KEY.mp4
and KEY.json). Each shard has all scenes, so that the first shards alone are a balanced set. Needs
the dependency group `data` and the system's libosmesa6. Shapes: T H W frames, C colour.
"""

from __future__ import annotations

import json
import logging
import math
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from nbp_core.config.shapes import CLIP_SIDE
from nbp_core.data.keys import FRAMES_PER_KEY, GRIP_SUFFIX, REST, HeldKeys, KeyClip
from nbp_core.data.metaworld import (
    STOCK_SHARE,
    add_clip,
    import_metaworld,
    missing_shards,
    new_environment,
    new_expert,
    read_state,
    set_up_camera,
    shoot,
)
from nbp_core.data.sources import (
    UNKNOWN_MEMBER,
    open_shard,
    read_member,
    report_skipped,
    unknown_members,
)
from nbp_core.media.files import Frames, MediaError, printable_name, replacing
from nbp_core.media.video import crop_resize, read_video

ARM_SCENES = (
    "drawer-open", "drawer-close", "door-open", "window-open", "faucet-open", "box-close",
    "coffee-push", "button-press", "soccer", "sweep-into",
)  # fmt: skip
ARM_KEYS = (REST, "left", "right", "away", "near", "up", "down")
GRIP_OPEN, GRIP_CLOSED = -1, 1
PLAYER_KEYS = (*ARM_KEYS, *(key + GRIP_SUFFIX for key in ARM_KEYS))
"""Keys of a player and conditions of a model: all with an open grip, then all with a closed one."""
ARM_LOOK = "arm"
ARM_LOOKS = (f"{ARM_LOOK}-stock", f"{ARM_LOOK}-varied")
"""How episodes look."""

ArmSplit = Literal["train", "val", "recorded", "bounds"]
ARM_SPLITS: tuple[ArmSplit, ...] = ("train", "val", "recorded", "bounds")
"""`recorded` episodes are for comparison with plays, not for training or validation. `bounds`
episodes are training data in which keys may press the hand against BOUNDS, where it stops."""

KEYS_PER_EPISODE = 16
EPISODE_FRAMES = 1 + KEYS_PER_EPISODE * FRAMES_PER_KEY
EPISODE_FPS = 16
STEPS_PER_FRAME = 2
EPISODES_PER_SCENE = 5
"""Episodes of one scene in a shard."""

GRIP_CHANGE = 0.15
"""Probability that the grip changes with a new key."""
EXPERT_SHARE = 0.5
RANDOM_SHARE = 0.15
"""Share of random keys in an episode that follows the expert."""
EXPERT_STAYS = 0.1
"""If no component of the expert's move is larger, the key is `stay`."""
BOUNDS = np.array([[-0.3, 0.3], [0.45, 0.9], [0.06, 0.35]])
"""Smallest and largest x, y and z, in metres, to which keys may move the hand."""
REACH = 0.07
"""Distance in metres along a key's direction that must be within BOUNDS."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Press:
    """The key (a name in ARM_KEYS) and the grip that are held for one latent frame."""

    key: str
    grip: int


def key_directions(azimuth_degrees: float) -> dict[str, NDArray[np.float64]]:
    """Each key's direction (x, y, z) in the world, of length 1, for a camera of this azimuth."""
    a = math.radians(azimuth_degrees)
    away = np.array([math.cos(a), math.sin(a), 0.0])
    right = np.array([math.sin(a), -math.cos(a), 0.0])
    up = np.array([0.0, 0.0, 1.0])
    moves = (np.zeros(3), -right, right, away, -away, up, -up)
    return dict(zip(ARM_KEYS, moves, strict=True))


def leads_out(hand: NDArray[np.float64], direction: NDArray[np.float64]) -> bool:
    """Whether a key moves the hand (x, y, z) out of BOUNDS, or further out."""
    return bool(_axes_out(hand, direction).any())


def stopped(hand: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
    """The direction (x, y, z) without its components that lead the hand out of BOUNDS."""
    return np.where(_axes_out(hand, direction), 0.0, direction)


def _axes_out(hand: NDArray[np.float64], direction: NDArray[np.float64]) -> NDArray[np.bool_]:
    ahead = hand + REACH * direction
    below = (ahead < BOUNDS[:, 0]) & (direction < -1e-6)
    above = (ahead > BOUNDS[:, 1]) & (direction > 1e-6)
    return below | above


class Wanderer:
    """Draws random keys; with a new key the grip may change.

    presses_bounds: also draws keys that would move the hand out of BOUNDS.
    """

    def __init__(
        self,
        directions: dict[str, NDArray[np.float64]],
        rng: np.random.Generator,
        presses_bounds: bool = False,
    ) -> None:
        self._directions = directions
        self._rng = rng
        self._presses_bounds = presses_bounds
        self._held = HeldKeys(rng)
        self._grip = GRIP_OPEN

    def next(self, hand: NDArray[np.float64]) -> Press:
        """The press for the next latent frame, given the hand's position (x, y, z)."""
        allowed = ARM_KEYS if self._presses_bounds else allowed_keys(hand, self._directions)
        key, is_new = self._held.next(allowed)
        if is_new and self._rng.random() < GRIP_CHANGE:
            self._grip = -self._grip
        return Press(key=key, grip=self._grip)


def allowed_keys(
    hand: NDArray[np.float64], directions: dict[str, NDArray[np.float64]]
) -> list[str]:
    """The keys that do not move the hand out of BOUNDS."""
    return [key for key, way in directions.items() if not leads_out(hand, way)]


def nearest_key(move: NDArray[np.float64], directions: dict[str, NDArray[np.float64]]) -> str:
    """The key whose direction is nearest to a move (x, y, z)."""
    if (np.abs(move) < EXPERT_STAYS).all():
        return REST
    return max(ARM_KEYS[1:], key=lambda key: float(move @ directions[key]))


def read_episodes(folder: Path, split: ArmSplit, limit: int | None = None) -> Iterator[KeyClip]:
    """Yields the episodes of a split in a folder of shards, with keys such as "left", "left+grip".

    limit: largest number of episodes, evenly spread over the shards and their scenes. Episodes that
    cannot be read, or whose length differs from the first one's, are logged and left out. Raises
    MediaError if no episode can be read, or if a shard is not a tar of episodes.
    """
    shards = sorted(folder.glob(f"{split}-*.tar"))
    if not shards:
        raise MediaError(f"{folder.name} has no {split}-*.tar shards of episodes.")
    unknown: list[PurePath] = []
    names = {shard: _episode_names(shard, unknown) for shard in shards}
    everything = [(shard, name) for shard in shards for name in names[shard]]
    chosen = everything
    if limit is not None and limit < len(everything):
        chosen = [everything[number * len(everything) // limit] for number in range(limit)]
    num_keys, num_read = None, 0
    for shard in shards:
        wanted = [name for of, name in chosen if of == shard]
        for name, found in _read_shard(shard, wanted):
            if isinstance(found, KeyClip) and num_keys in (None, len(found.keys)):
                num_keys, num_read = len(found.keys), num_read + 1
                yield found
                continue
            why: object = found
            if isinstance(found, KeyClip):
                why = f"it has {len(found.keys)} keys, and others have {num_keys}"
            _log.warning("%s of %s left out: %s", name, shard.name, why)
    report_skipped(unknown, printable_name(folder), UNKNOWN_MEMBER)
    if num_read < len(chosen):
        left_out = len(chosen) - num_read
        _log.warning(
            "%d of the %d episodes of %s left out", left_out, len(chosen), printable_name(folder)
        )
    if num_read == 0:
        raise MediaError(f"{printable_name(folder)} has no {split} episode that can be read.")


def read_training_episodes(folder: Path) -> Iterator[KeyClip]:
    """The episodes of the train shards of a folder, then those of its bounds shards, if any."""
    yield from read_episodes(folder, "train")
    if any(folder.glob("bounds-*.tar")):
        yield from read_episodes(folder, "bounds")


def _episode_names(shard: Path, unknown: list[PurePath]) -> list[str]:
    """Names of a shard's episodes, without suffix. Other files are added to `unknown`."""
    with open_shard(shard, "episodes") as tar:
        unknown += unknown_members(tar)
        return sorted(name[:-4] for name in tar.getnames() if name.endswith(".mp4"))


def _read_shard(shard: Path, names: list[str]) -> Iterator[tuple[str, KeyClip | MediaError]]:
    """The episodes of these names; an error in place of one that cannot be read."""
    with open_shard(shard, "episodes") as tar:
        members = {member.name: member for member in tar}
        for name in names:
            parts = [read_member(tar, members.get(f"{name}.{kind}")) for kind in ("mp4", "json")]
            try:
                yield name, _episode(*parts)
            except MediaError as error:
                yield name, error
            except (KeyError, TypeError, ValueError, RecursionError):
                yield name, MediaError("its label is wrong or missing")


def _episode(video: bytes, label: bytes) -> KeyClip:
    """An episode of its two files. Raises MediaError and what a wrong label raises."""
    facts = json.loads(label)
    keys = tuple(key_name(*press) for press in zip(facts["keys"], facts["grip"], strict=True))
    unknown = sorted(set(keys) - set(PLAYER_KEYS))
    if not keys:
        raise MediaError("it has no key")
    if unknown:
        raise MediaError(f"it has an unknown key {unknown[0]!r}")
    with tempfile.TemporaryDirectory(prefix="nbp-") as folder:
        path = Path(folder, "episode.mp4")
        path.write_bytes(video)
        frames_THWC = crop_resize(read_video(path)[0], CLIP_SIDE)
    needed = 1 + FRAMES_PER_KEY * len(keys)
    if len(frames_THWC) != needed:
        raise MediaError(f"it has {len(frames_THWC)} frames, not the {needed} of its keys")
    return KeyClip(frames_THWC=frames_THWC, keys=keys, look=f"{ARM_LOOK}-{facts['look']}")


def key_name(key: str, grip: int) -> str:
    """The name of a key with its grip, such as "left+grip"."""
    return key + GRIP_SUFFIX * (grip == GRIP_CLOSED)


def render_arm_keys(
    out_folder: Path,
    split: ArmSplit,
    num_shards: int,
    seed: int,
    scenes: tuple[str, ...] = ARM_SCENES,
    per_scene: int = EPISODES_PER_SCENE,
) -> None:
    """Renders shards {split}-NNNN.tar into a folder; existing shards are kept, and counted in the
    log.

    A shard has `per_scene` episodes of each scene. Raises ValueError for an unknown scene or if
    Meta-World is not installed.
    """
    unknown = sorted(set(scenes) - set(ARM_SCENES))
    if unknown:
        raise ValueError(f"unknown scene {unknown[0]!r}; there are {', '.join(ARM_SCENES)}")
    worlds = import_metaworld()
    out_folder.mkdir(parents=True, exist_ok=True)
    shards = {out_folder / f"{split}-{number:04d}.tar": number for number in range(num_shards)}
    for shard in missing_shards(shards):
        number = shards[shard]
        with replacing(shard) as partial, tarfile.open(partial, "w") as tar:
            episodes = [(scene, index) for index in range(per_scene) for scene in scenes]
            for scene, index in tqdm(episodes, desc=shard.name, unit="episode"):
                # The split is part of the seed, so splits never share an episode.
                place = [ARM_SPLITS.index(split), number, ARM_SCENES.index(scene), index]
                rng = np.random.default_rng([seed, *place])
                frames, label = render_episode(worlds, scene, rng, split == "bounds")
                add_clip(tar, f"{scene}_{split}_{number:04d}_{index}", frames, label)


def render_episode(
    worlds: tuple[Any, Any, Any],
    scene: str,
    rng: np.random.Generator,
    presses_bounds: bool = False,
) -> tuple[Frames, dict[str, Any]]:
    """frames_THWC (EPISODE_FRAMES of them) and the label: scene, look, fps, keys, grip.

    presses_bounds: keys may press the hand against BOUNDS, where it stops; no expert is followed.
    """
    varied = bool(rng.random() >= STOCK_SHARE)
    follows_expert = bool(rng.random() < EXPERT_SHARE) and not presses_bounds
    env = new_environment(worlds, scene, rng, varied)
    observation, _ = env.reset()
    camera = set_up_camera(worlds[2], env.model, rng, varied)
    directions = key_directions(camera.azimuth)
    wanderer = Wanderer(directions, rng, presses_bounds)
    expert = new_expert(worlds, scene) if follows_expert else None
    states, presses = [read_state(env)], []
    for _ in range(KEYS_PER_EPISODE):
        press = wanderer.next(env.get_endeff_pos())
        if expert is not None:
            press = _expert_press(expert, observation, env.get_endeff_pos(), directions, rng)
        for _ in range(FRAMES_PER_KEY):
            way = directions[press.key]
            if presses_bounds:
                way = stopped(env.get_endeff_pos(), way)
            move = np.array([*way, press.grip], dtype=np.float32)
            for _ in range(STEPS_PER_FRAME):
                observation = env.step(move)[0]
            states.append(read_state(env))
        presses.append(press)
    return shoot(worlds[2], env, states, camera), {
        "scene": scene,
        "look": "varied" if varied else "stock",
        "fps": EPISODE_FPS,
        "keys": [press.key for press in presses],
        "grip": [press.grip for press in presses],
    }


def _expert_press(
    expert: Any,
    observation: NDArray[np.float64],
    hand: NDArray[np.float64],
    directions: dict[str, NDArray[np.float64]],
    rng: np.random.Generator,
) -> Press:
    """The key nearest to the scripted expert's move; sometimes a random key instead."""
    move = expert.get_action(observation)
    key = nearest_key(move[:3], directions)
    if rng.random() < RANDOM_SHARE:
        allowed = allowed_keys(hand, directions)
        key = allowed[rng.integers(len(allowed))]
    return Press(key=key, grip=GRIP_CLOSED if move[3] > 0 else GRIP_OPEN)
