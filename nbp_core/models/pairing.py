"""Finds the tokenizer of a transformer and checks that it is the one it was trained with.

Input: a transformer's folder. Output: its tokenizer's folder and fingerprint, or one sentence.
"""

from __future__ import annotations

from pathlib import Path

from nbp_core.config.description import (
    CheckpointError,
    load_config,
    read_description,
)
from nbp_core.config.models import TokenizerConfig
from nbp_core.config.tokenizer_folder import tokenizer_folder
from nbp_core.config.weight_files import weights_sha256
from nbp_core.tokenizer.cosmos import DECODER_FILE, ENCODER_FILE, cosmos_sha256, is_cosmos


def find_tokenizer(folder: Path, cosmos: Path | None = None) -> tuple[Path, str]:
    """(folder, fingerprint) of the tokenizer that the transformer in `folder` names.

    Our own models name the SHA-256 of their tokenizer's weights. Converted models name their data
    set and, if their file contained a tokenizer, the hash of its first kernel. Raises
    CheckpointError if the tokenizer is missing or is another one.
    """
    wanted = read_description(folder).get("tokenizer") or {}
    if wanted.get("cosmos"):
        return _check_cosmos(folder, str(wanted["cosmos"]), cosmos)
    found = tokenizer_folder(folder)
    assert found is not None
    load_config(found, TokenizerConfig)
    fingerprint = weights_sha256(found)
    if wanted.get("family"):
        _check_family(folder, wanted, found)
    elif fingerprint != wanted.get("sha256"):
        raise CheckpointError(
            f"model {folder.name!r} was trained with another version of tokenizer "
            f"{found.name!r} (its fingerprint differs)"
        )
    return found, fingerprint


def _check_cosmos(folder: Path, sha256: str, cosmos: Path | None) -> tuple[Path, str]:
    """Loading Cosmos runs code, so only the user may name its folder, never a model."""
    if cosmos is None:
        raise CheckpointError(
            f"model {folder.name!r} was trained on the Cosmos tokenizer: name its folder with "
            "--cosmos FOLDER"
        )
    if not is_cosmos(cosmos):
        raise CheckpointError(f"{cosmos.name!r} has no {ENCODER_FILE} and {DECODER_FILE}")
    if cosmos_sha256(cosmos) != sha256:
        raise CheckpointError(
            f"model {folder.name!r} was trained with other files than those in {cosmos.name!r}"
        )
    return cosmos, sha256


def _check_family(folder: Path, wanted: dict[str, str | None], tokenizer: Path) -> None:
    """Checks that a converted transformer and tokenizer come from the same data set."""
    found = read_description(tokenizer).get("origin") or {}
    if wanted.get("source") is not None:
        is_same = found.get("source") == wanted["source"]
    else:
        is_same = found.get("family") == wanted["family"]
    if not is_same:
        theirs = found.get("family") or "unnamed"
        raise CheckpointError(
            f"model {folder.name!r} was trained with the {wanted['family']} tokenizer, but "
            f"{tokenizer.name!r} is another one ({theirs})"
        )
