"""Renders clips of 50 named robot-arm actions: Meta-World (MIT) with its scripted experts.

Output: tar shards in WebDataset's layout, one per action and split. 40 % of the clips have
Meta-World's stock look. The others vary the arm's colour, the materials, the camera and the hand's
initial position. Needs the dependency group `data` and the system's libosmesa6.
"""

from __future__ import annotations

import colorsys
import importlib
import io
import json
import logging
import os
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from nbp_core.config.shapes import CLIP_FPS, CLIP_FRAMES, CLIP_SIDE
from nbp_core.data.clips import Split
from nbp_core.media.files import Frames, replacing
from nbp_core.media.video import write_video

METAWORLD_ACTIONS = (
    "assembly", "basketball", "bin-picking", "box-close", "button-press-topdown",
    "button-press-topdown-wall", "button-press", "button-press-wall", "coffee-button",
    "coffee-pull", "coffee-push", "dial-turn", "disassemble", "door-close", "door-lock",
    "door-open", "door-unlock", "drawer-close", "drawer-open", "faucet-close", "faucet-open",
    "hammer", "hand-insert", "handle-press-side", "handle-press", "handle-pull-side",
    "handle-pull", "lever-pull", "peg-insert-side", "peg-unplug-side", "pick-out-of-hole",
    "pick-place", "pick-place-wall", "plate-slide-back-side", "plate-slide-back",
    "plate-slide-side", "plate-slide", "push-back", "push", "push-wall", "reach", "reach-wall",
    "shelf-place", "soccer", "stick-pull", "stick-push", "sweep-into", "sweep", "window-close",
    "window-open",
)  # fmt: skip
STOCK_SHARE = 0.4
RENDER_SIDE = 256
ACTION_NOISE = 0.1
STEPS_AFTER_SUCCESS = 8
MAX_STEPS = 500
MAX_FAILURES = 20
AZIMUTH, ELEVATION, DISTANCE, LOOK_AT = 138.0, -28.0, 1.15, (0.02, 0.68, 0.16)
AZIMUTH_JITTER, ELEVATION_JITTER, DISTANCE_JITTER = (-22.0, 22.0), (-10.0, 6.0), (-0.05, 0.25)
HAND_JITTER = ((-0.12, 0.12), (-0.1, 0.1), (-0.03, 0.1))
ARM_VALUES, TINT = (0.5, 0.95), (0.6, 1.25)
ARM_COLOUR = (0.5, 0.1, 0.1)
"""Stock colour of the links. Pedestal, black ring and fingers have other colours and keep them."""

_log = logging.getLogger(__name__)

State = tuple[Any, ...]
"""qpos, qvel, mocap_pos, mocap_quat at one time."""


def render(
    out_folder: Path,
    split: Split,
    clips_per_action: int,
    seed: int,
    actions: list[str] | None = None,
) -> None:
    """Renders shards {split}-CC.tar into a folder; existing ones are kept, and counted in the log.

    Raises ValueError for an unknown action or if Meta-World is not installed.
    """
    unknown = sorted(set(actions or ()) - set(METAWORLD_ACTIONS))
    if unknown:
        raise ValueError(
            f"unknown action {unknown[0]!r}; METAWORLD_ACTIONS in data/metaworld.py has all names"
        )
    worlds = import_metaworld()
    out_folder.mkdir(parents=True, exist_ok=True)
    shards = {
        out_folder / f"{split}-{index:02d}.tar": (index, action)
        for index, action in enumerate(METAWORLD_ACTIONS)
        if not actions or action in actions
    }
    for shard in missing_shards(shards):
        index, action = shards[shard]
        # The split is part of the seed, so splits never share a clip.
        rng = np.random.default_rng([seed, ("train", "val").index(split), index])
        with replacing(shard) as partial, tarfile.open(partial, "w") as tar:
            for number in tqdm(range(clips_per_action), desc=f"{split} {action}", unit="clip"):
                frames, label = _render_clip(worlds, action, rng)
                label |= {"class": index, "action": action, "prompt": action.replace("-", " ")}
                add_clip(tar, f"{action}_{split}_{number:04d}", frames, label)


def missing_shards(shards: Iterable[Path]) -> list[Path]:
    """The shards that are not there yet. A line of the log counts the others, which are kept."""
    kept = [shard for shard in shards if shard.is_file()]
    if kept:
        _log.warning(
            "%d of the shards are there already (%s): delete a shard to render it anew",
            len(kept), ", ".join(shard.name for shard in kept[:3]) + ", ..." * (len(kept) > 3),
        )  # fmt: skip
    return [shard for shard in shards if shard not in kept]


def add_clip(tar: tarfile.TarFile, key: str, frames: Frames, label: dict[str, Any]) -> None:
    """Adds KEY.mp4 and KEY.json to a shard."""
    with tempfile.TemporaryDirectory(prefix="nbp-") as folder:
        path = Path(folder, "clip.mp4")
        write_video(path, frames, pixel_format="yuv444p")
        parts = {".mp4": path.read_bytes(), ".json": json.dumps(label).encode()}
    for suffix, data in parts.items():
        member = tarfile.TarInfo(key + suffix)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))


def import_metaworld() -> tuple[Any, Any, Any]:
    """The modules metaworld, metaworld.policies and mujoco, set up for software rendering.

    Raises ValueError if they are not installed.
    """
    os.environ.setdefault("MUJOCO_GL", "osmesa")
    os.environ.setdefault("LP_NUM_THREADS", "1")
    try:
        modules = (
            importlib.import_module(n) for n in ("metaworld", "metaworld.policies", "mujoco")
        )
        metaworld, policies, mujoco = modules
    except (ImportError, AttributeError) as error:
        raise ValueError(
            "rendering needs Meta-World (python -m pip install --group data) and the system's "
            f"libosmesa6: {error}"
        ) from error
    return metaworld, policies, mujoco


def _render_clip(
    worlds: tuple[Any, Any, Any], action: str, rng: np.random.Generator
) -> tuple[Frames, dict[str, Any]]:
    """One successful rollout as frames_THWC and its label. Rollouts without success are dropped.

    Raises ValueError after MAX_FAILURES of them.
    """
    for _ in range(MAX_FAILURES):
        varied = bool(rng.random() >= STOCK_SHARE)
        env, states = _roll_out(worlds, action, rng, varied)
        if states:
            camera = set_up_camera(worlds[2], env.model, rng, varied)
            chosen = np.linspace(0, len(states) - 1, CLIP_FRAMES).round().astype(int)
            frames = shoot(worlds[2], env, [states[index] for index in chosen], camera)
            look = "varied" if varied else "stock"
            return frames, {"look": look, "steps": len(states), "fps": CLIP_FPS}
    raise ValueError(
        f"the scripted expert failed {MAX_FAILURES} times in a row at {action}: try another --seed"
    )


def _roll_out(
    worlds: tuple[Any, Any, Any], action: str, rng: np.random.Generator, varied: bool
) -> tuple[Any, list[State]]:
    """(environment, physics states of a rollout); no states if the action did not succeed."""
    env = new_environment(worlds, action, rng, varied)
    observation, _ = env.reset()
    policy = new_expert(worlds, action)
    states, after_success = [read_state(env)], 0
    for _ in range(MAX_STEPS):
        move = policy.get_action(observation)
        move = np.clip(move + rng.normal(0, ACTION_NOISE, move.shape), -1, 1)
        observation, _, _, _, info = env.step(move.astype(np.float32))
        states.append(read_state(env))
        after_success += bool(after_success or info["success"])
        if after_success > STEPS_AFTER_SUCCESS:
            return env, states
    return env, []


def new_environment(
    worlds: tuple[Any, Any, Any], scene: str, rng: np.random.Generator, varied: bool
) -> Any:
    """A scene before its first reset, without a time limit.

    worlds: from import_metaworld. varied: the hand starts at a random position.
    """
    seed = int(rng.integers(2**31))
    env = worlds[0].ALL_V3_ENVIRONMENTS_GOAL_OBSERVABLE[f"{scene}-v3-goal-observable"](seed=seed)
    env.seed(seed)
    env._freeze_rand_vec = False
    env.seeded_rand_vec = True  # else objects are placed by NumPy's global generator
    env.max_path_length = 10**9
    if varied:
        env.hand_init_pos = env.hand_init_pos + [rng.uniform(*span) for span in HAND_JITTER]
    return env


def new_expert(worlds: tuple[Any, Any, Any], scene: str) -> Any:
    """Meta-World's scripted policy of a scene: get_action(observation) -> move (4,)."""
    words = "".join(word.capitalize() for word in scene.split("-"))
    return getattr(worlds[1], f"Sawyer{_POLICY_NAMES.get(scene, words)}V3Policy")()


_POLICY_NAMES = {"peg-insert-side": "PegInsertionSide"}


def read_state(env: Any) -> State:
    """Copies of the physics state that a picture depends on: qpos, qvel, mocap_pos, mocap_quat."""
    data = env.data
    return tuple(part.copy() for part in (data.qpos, data.qvel, data.mocap_pos, data.mocap_quat))


def set_up_camera(mujoco: Any, model: Any, rng: np.random.Generator, varied: bool) -> Any:
    """A free camera. Simplifies light and materials; varied: also changes materials and camera."""
    model.light_castshadow[:] = 0
    model.mat_reflectance[:] = 0
    model.vis.quality.offsamples = 0
    model.vis.quality.shadowsize = 512
    camera = mujoco.MjvCamera()
    camera.azimuth, camera.elevation, camera.distance = AZIMUTH, ELEVATION, DISTANCE
    camera.lookat[:] = LOOK_AT
    if varied:
        _vary(model, camera, rng)
    return camera


def shoot(mujoco: Any, env: Any, states: list[State], camera: Any) -> Frames:
    """frames_THWC of states, rendered at RENDER_SIDE and reduced by area to CLIP_SIDE."""
    model, data = env.model, env.data
    options = mujoco.MjvOption()
    options.sitegroup[:] = 0  # else green goal markers show
    renderer = mujoco.Renderer(model, RENDER_SIDE, RENDER_SIDE)
    frames = []
    for state in states:
        data.qpos[:], data.qvel[:], data.mocap_pos[:], data.mocap_quat[:] = state
        mujoco.mj_forward(model, data)
        renderer.update_scene(data, camera, options)
        picture = renderer.render()
        frames.append(cv2.resize(picture, (CLIP_SIDE, CLIP_SIDE), interpolation=cv2.INTER_AREA))
    renderer.close()
    return np.stack(frames).astype(np.uint8)


def _vary(model: Any, camera: Any, rng: np.random.Generator) -> None:
    """Another arm colour, tinted materials, a moved camera."""
    camera.azimuth += rng.uniform(*AZIMUTH_JITTER)
    camera.elevation += rng.uniform(*ELEVATION_JITTER)
    camera.distance += rng.uniform(*DISTANCE_JITTER)
    tint = rng.uniform(*TINT, (model.nmat, 3))
    model.mat_rgba[:, :3] = np.clip(model.mat_rgba[:, :3] * tint, 0, 1)
    colour = colorsys.hsv_to_rgb(rng.random(), rng.uniform(*ARM_VALUES), rng.uniform(*ARM_VALUES))
    links = np.isclose(model.geom_rgba[:, :3], ARM_COLOUR).all(axis=1)
    model.geom_rgba[links, :3] = colour
