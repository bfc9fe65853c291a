"""Latent frames of clips with keys, one by one: the input of a network that reads keys.

Shapes: N latent frames, T H W frames, C colour. Latent frame k is frames 4k to 4k + 4: from the
frame before key k to the last frame under it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from tqdm import tqdm

from nbp_core.config.models import ClassifierConfig
from nbp_core.data.arm_keys import ARM_KEYS
from nbp_core.data.clips import ClipSet
from nbp_core.data.keys import FRAMES_PER_KEY, GRIP_SUFFIX, KeyClip
from nbp_core.media.files import Frames, replacing
from nbp_core.media.video import crop_resize
from nbp_core.tokenizer.interface import Tokenizer, to_clip, to_frames

READ_FRAMES = 3
"""Frames per latent frame that a reader receives: the first, the middle and the last."""
READ_SIDE = 64
"""Height and width of a reader's frames, in pixels."""


def direction(key: str) -> str:
    """A key without its grip, which is seldom visible within a quarter of a second."""
    return key.removesuffix(GRIP_SUFFIX)


def latent_frames(frames_THWC: Frames, side: int | None = None) -> Frames:
    """frames_THWC of an episode -> (N, READ_FRAMES, H, W, C), resized to `side` if given."""
    if side is not None:
        frames_THWC = crop_resize(frames_THWC, side)
    step = FRAMES_PER_KEY // (READ_FRAMES - 1)
    starts = range(0, len(frames_THWC) - FRAMES_PER_KEY, FRAMES_PER_KEY)
    return np.stack([frames_THWC[k : k + FRAMES_PER_KEY + 1 : step] for k in starts])


@torch.inference_mode()
def reconstructed(tokenizer: Tokenizer, frames_THWC: Frames, device: str = "cpu") -> Frames:
    """The tokenizer's reconstruction of an episode's frames_THWC."""
    tokens_Bthw = tokenizer.encode(to_clip(frames_THWC[None], device))
    frames: Frames = to_frames(tokenizer.decode(tokens_Bthw))[0]
    return frames


def key_reader_config(name: str) -> ClassifierConfig:
    """The configuration of a network that reads the arm's keys from READ_FRAMES frames."""
    return ClassifierConfig(
        name=name,
        actions=ARM_KEYS,
        widths=(24, 48, 96, 160),
        num_frames=READ_FRAMES,
        side=READ_SIDE,
        stacked=True,
    )


def load_key_pairs(
    file: Path, tokenizer: Tokenizer, clips: Iterable[KeyClip], made_of: str, device: str = "cpu"
) -> ClipSet:
    """The `key_pairs` in a file; they are made and written if the file has none or others.

    made_of: fingerprint of clips and tokenizer, with which the file must agree.
    """
    if file.is_file():
        with (
            contextlib.suppress(ValueError, KeyError, OSError, EOFError, BadZipFile),
            np.load(file) as kept,
        ):
            if str(kept["made_of"]) == made_of:
                names, looks = (list(map(str, kept[name])) for name in ("names", "looks"))
                return ClipSet(kept["frames"], names, looks)
    found = key_pairs(tokenizer, clips, device)
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as partial, partial.open("wb") as out:
        np.savez(
            out, frames=found.frames_NTHWC, names=found.actions, looks=found.looks, made_of=made_of
        )
    return found


def key_pairs(tokenizer: Tokenizer, clips: Iterable[KeyClip], device: str = "cpu") -> ClipSet:
    """Latent frames of clips and of their reconstructions, labelled with their keys.

    Raises ValueError if there are no clips.
    """
    found: list[Frames] = []
    names: list[str] = []
    looks: list[str] = []
    for clip in tqdm(clips, desc="reconstructing", unit="episode"):
        made = reconstructed(tokenizer, clip.frames_THWC, device)
        for frames_THWC, origin in ((clip.frames_THWC, "real"), (made, "reconstructed")):
            found.append(latent_frames(frames_THWC, READ_SIDE))
            names += [direction(key) for key in clip.keys]
            looks += [origin] * len(clip.keys)
    if not found:
        raise ValueError("there are no clips with keys to reconstruct")
    return ClipSet(np.concatenate(found), names, looks)
