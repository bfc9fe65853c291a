"""Where the tokenizer of a transformer lies. Imports no torch."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from nbp_core.config.description import (
    CONFIG_FILE,
    CheckpointError,
    named_folder,
    read_description,
)
from nbp_core.config.weight_files import weight_files, weights_sha256


def tokenizer_folder(path: Path) -> Path | None:
    """The folder of the tokenizer of the transformer in `path`, or None for Cosmos.

    It is the folder that the model names. If that is missing, as where a trained model was copied,
    it is the one beside the model with the same weights. Raises CheckpointError if there is none.
    """
    wanted = read_description(path).get("tokenizer") or {}
    if wanted.get("cosmos"):
        return None
    name = str(wanted.get("folder") or "")
    folder = named_folder(path, name)
    if (folder / CONFIG_FILE).is_file():
        return folder
    if wanted.get("family"):
        raise CheckpointError(
            f"model {path.name!r} needs the {wanted['family']} tokenizer in a folder "
            f"{folder.name!r} beside it: convert magvit2_{wanted['family']}.pt to there"
        )
    found = _beside(path, wanted.get("sha256"))
    if found is None:
        raise CheckpointError(
            f"model {path.name!r} needs the tokenizer that its {CONFIG_FILE} names, "
            f"{name!r}, which is missing: copy that folder beside the model's"
        )
    return found


def _beside(path: Path, sha256: str | None) -> Path | None:
    """The tokenizer with this fingerprint beside a model, or beside the model that a link names."""
    for parent in dict.fromkeys((path.absolute().parent, path.resolve().parent)):
        for folder in sorted(parent.iterdir()):
            if folder.is_dir() and _is_tokenizer(folder, sha256):
                return folder
    return None


def _is_tokenizer(folder: Path, sha256: str | None) -> bool:
    try:
        if read_description(folder)["kind"] != "tokenizer":
            return False
        files = [file.stat() for file in weight_files(folder)]
        return _sha256(folder, tuple((file.st_size, file.st_mtime_ns) for file in files)) == sha256
    except (CheckpointError, OSError):
        return False


@lru_cache(maxsize=64)
def _sha256(folder: Path, stamps: tuple[tuple[int, int], ...]) -> str:
    """The fingerprint of a folder, computed again when size or time of its weights has changed."""
    return weights_sha256(folder)
