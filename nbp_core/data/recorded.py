"""Recorded episodes of the simulator, to compare plays with: NAME.mp4, and NAME.json with its keys.

No model was trained on or validated with them. Shapes: T H W frames, C colour.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nbp_core.config.json import JsonConfig
from nbp_core.config.timeline import parse_timeline
from nbp_core.data.arm_keys import ARM_LOOK, PLAYER_KEYS
from nbp_core.data.keys import FRAMES_PER_KEY, KeyClip
from nbp_core.media.files import MediaError, shown_name
from nbp_core.media.video import crop_resize, read_video


@dataclass(frozen=True, kw_only=True, slots=True)
class EpisodeLabel(JsonConfig):
    """The content of NAME.json. Raises ValueError for a key that the arm does not have."""

    scene: str
    look: str
    """`stock` or `varied`."""
    keys: str
    """One key per latent frame; `left*4 stay+grip` is left four times, then stay with the grip
    closed."""

    def __post_init__(self) -> None:
        unknown = sorted(set(self.pressed) - set(PLAYER_KEYS))
        if unknown:
            raise ValueError(f"unknown key {unknown[0]!r}; there are {', '.join(PLAYER_KEYS)}")

    @property
    def pressed(self) -> tuple[str, ...]:
        """The keys, one for each latent frame."""
        return parse_timeline(self.keys)


def recorded_episodes(folder: Path) -> dict[str, EpisodeLabel]:
    """The labels of the episodes in a folder by name, without their frames.

    Raises ValueError for a label that is wrong. A folder that does not exist has no episodes.
    """
    labels = (path for path in sorted(folder.glob("*.json")) if path.with_suffix(".mp4").is_file())
    return {path.stem: EpisodeLabel.read(path) for path in labels}


def read_recorded(path: Path) -> KeyClip:
    """The episode of a label NAME.json, with the frames of NAME.mp4 beside it.

    Raises MediaError for a video that cannot be read or has other frames than the keys need, and
    ValueError for a wrong label.
    """
    if not path.is_file():
        raise MediaError(f"there is no episode {shown_name(path)}.")
    label = EpisodeLabel.read(path)
    frames_THWC = crop_resize(read_video(path.with_suffix(".mp4"))[0])
    needed = 1 + FRAMES_PER_KEY * len(label.pressed)
    if len(frames_THWC) != needed:
        raise MediaError(
            f"{shown_name(path.with_suffix('.mp4'))} has {len(frames_THWC)} frames, not the "
            f"{needed} that its keys need."
        )
    return KeyClip(frames_THWC=frames_THWC, keys=label.pressed, look=f"{ARM_LOOK}-{label.look}")
