"""Encoded clips to train on: a TokenSet has the tokens and the actions or keys of a split.

Shapes: N clips, tokens_Nthw uint16 (uint32 for more than 65,536 codes), frames_NTHWC uint8.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from nbp_core.config.json import read_json
from nbp_core.data.camera_moves import PHOTO_LOOK, PhotoClips, num_validation_moves
from nbp_core.data.clips import Split, open_clips
from nbp_core.data.keys import KeyClip
from nbp_core.media.files import Frames, replacing, write_text
from nbp_core.tokenizer.interface import Tokenizer, to_clip

TOKENS_FILE = "tokens.npy"
LABELS_FILE = "labels.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenSet:
    """The tokens of N clips, with the action and look of each.

    keys: for clips with keys, the key of each latent frame after the first. Such clips have no
    action; `actions` then names their source.
    """

    tokens_Nthw: NDArray[np.unsignedinteger]
    actions: list[str]
    looks: list[str]
    keys: list[tuple[str, ...]] | None = None

    def __len__(self) -> int:
        return len(self.actions)

    def fingerprint(self) -> str:
        """A hash of the tokens, in their order, and of their actions and keys."""
        digest = hashlib.sha256(np.ascontiguousarray(self.tokens_Nthw).tobytes())
        digest.update(json.dumps([self.tokens_Nthw.shape, self.actions, self.keys]).encode())
        return digest.hexdigest()[:16]

    def conditions(self, row: int) -> tuple[str | None, ...]:
        """The action or key of each latent frame of clip `row`; None (no condition) for the first
        frame of a clip with keys."""
        if self.keys is None:
            return (self.actions[row],) * int(self.tokens_Nthw.shape[1])
        return (None, *self.keys[row])

    def _check(self) -> None:
        """Raises ValueError where tokens and labels do not belong together."""
        num_clips, num_frames = self.tokens_Nthw.shape[:2]
        if not num_clips == len(self.actions) == len(self.looks):
            raise ValueError(f"{TOKENS_FILE} has another number of clips than {LABELS_FILE}")
        if self.keys is not None and [len(row) for row in self.keys] != num_clips * [
            num_frames - 1
        ]:
            raise ValueError(
                f"{TOKENS_FILE} has another number of latent frames than {LABELS_FILE}"
            )

    def save(self, folder: Path, tokenizer_sha256: str, source: str = "") -> None:
        """Writes tokens and labels. source: fingerprint of the data that was encoded."""
        folder.mkdir(parents=True, exist_ok=True)
        labels: dict[str, Any] = {
            "tokenizer": tokenizer_sha256,
            "source": source,
            "actions": self.actions,
            "looks": self.looks,
        }
        if self.keys is not None:
            labels["keys"] = self.keys
        # Labels are removed first and written last: their presence shows that the set is complete.
        (folder / LABELS_FILE).unlink(missing_ok=True)
        with replacing(folder / TOKENS_FILE) as partial, partial.open("wb") as file:
            np.save(file, self.tokens_Nthw)
        write_text(folder / LABELS_FILE, json.dumps(labels))

    @classmethod
    def load(
        cls, folder: Path, tokenizer_sha256: str, source: str | None = None
    ) -> TokenSet | None:
        """The set in a folder, or None if it has none from this tokenizer and source.

        source None accepts any source. A set that cannot be read is logged and counts as none.
        """
        if not (folder / LABELS_FILE).is_file():
            return None
        try:
            labels = read_json(folder / LABELS_FILE)
            if labels["tokenizer"] != tokenizer_sha256:
                return None
            if source is not None and labels.get("source") != source:
                return None
            keys = [tuple(row) for row in labels["keys"]] if "keys" in labels else None
            found = cls(np.load(folder / TOKENS_FILE), labels["actions"], labels["looks"], keys)
            found._check()
        except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError) as error:
            _log.warning("the tokens in %s cannot be read: %s", folder, error)
            return None
        return found

    @classmethod
    def kept(
        cls, folder: Path, tokenizer_sha256: str, source: str, encode: Callable[[], TokenSet]
    ) -> TokenSet:
        """The set in a folder, as `load` finds it, else a new one, which is written there."""
        found = cls.load(folder, tokenizer_sha256, source)
        if found is None:
            found = encode()
            found.save(folder, tokenizer_sha256, source)
        return found


def labelled_clips(
    clips: Path, split: Split, limit: int | None, photos: Path | None, num_moves: int, seed: int
) -> Iterator[tuple[Frames, str, str]]:
    """(frames_THWC, action, look) of a split's clips, then of camera moves over photographs.

    limit: largest number of clips per action. num_moves, seed: those of the training split's moves.
    """
    for record in open_clips(clips, split, limit):
        yield record.frames_THWC, record.action, record.look
    if photos is not None and num_moves:
        if split == "val":
            # Other moves over the same pictures. Pictures kept for tests are not in here.
            num_moves, seed = num_validation_moves(num_moves), seed + 1
        for frames, move in PhotoClips(photos, seed=seed).draw_many(num_moves):
            yield frames, move, PHOTO_LOOK


def encode_key_clips(
    tokenizer: Tokenizer, clips: Iterable[KeyClip], source: str, device: str = "cpu"
) -> TokenSet:
    """Clips with keys, all equally long -> their TokenSet, whose actions name the source."""
    keys: list[tuple[str, ...]] = []

    def labelled() -> Iterator[tuple[NDArray[np.uint8], str, str]]:
        for clip in clips:
            keys.append(clip.keys)
            yield clip.frames_THWC, source, clip.look

    encoded = encode_clips(tokenizer, labelled(), batch_size=2, device=device)
    return replace(encoded, keys=keys)


@torch.inference_mode()
def encode_clips(
    tokenizer: Tokenizer,
    clips: Iterable[tuple[NDArray[np.uint8], str, str]],
    batch_size: int = 8,
    device: str = "cpu",
) -> TokenSet:
    """Clips (frames_THWC, action, look) -> their TokenSet.

    Encodes in float32, as generation does: in bfloat16 2 to 3 % of the tokens differ.
    """
    dtype = np.uint16 if tokenizer.config.codebook_size <= 2**16 else np.uint32
    tokens: list[NDArray[np.unsignedinteger]] = []
    actions: list[str] = []
    looks: list[str] = []
    batch: list[NDArray[np.uint8]] = []

    def flush() -> None:
        # In float32 as everywhere: reduced precision would round some latents to other codes.
        clip = to_clip(np.stack(batch), device)
        tokens.append(tokenizer.encode(clip).cpu().numpy().astype(dtype))
        batch.clear()

    for frames, action, look in tqdm(clips, desc="encoding", unit="clip"):
        batch.append(frames)
        actions.append(action)
        looks.append(look)
        if len(batch) == batch_size:
            flush()
    if batch:
        flush()
    return TokenSet(np.concatenate(tokens), actions, looks)
