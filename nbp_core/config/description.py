"""config.json of a model folder, read and checked without loading the model.

It has `format`, `kind`, `config` and, for a transformer, the `tokenizer` that it was trained with.
Any fault raises CheckpointError: one sentence that names the folder and the place.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from nbp_core.config.json import JsonConfig, read_json, reason, shown
from nbp_core.config.models import ClassifierConfig, TokenizerConfig, TransformerConfig
from nbp_core.config.shapes import FORMAT_VERSION

CONFIG_FILE = "config.json"
KINDS: dict[str, type[JsonConfig]] = {
    "tokenizer": TokenizerConfig,
    "transformer": TransformerConfig,
    "classifier": ClassifierConfig,
}

ConfigT = TypeVar("ConfigT", bound=JsonConfig)


class CheckpointError(ValueError):
    """A model folder that cannot be used; the message is one sentence for its user."""


def read_description(folder: Path) -> dict[str, Any]:
    """The content of a model folder's config.json, with a known format and kind.

    `tokenizer` and `origin`, if present, are objects of texts; read_config checks `config`. Raises
    CheckpointError if the folder or file is missing, is not JSON, or has another format or kind.
    """
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise CheckpointError(f"there is no model folder {folder.name!r}")
    if not path.is_file():
        raise CheckpointError(f"model folder {folder.name!r} has no {CONFIG_FILE}")
    try:
        data: dict[str, Any] = read_json(path)
    except ValueError as error:
        raise CheckpointError(f"model {folder.name!r}: {error}") from error
    except OSError as error:
        raise CheckpointError(
            f"{CONFIG_FILE} of model {folder.name!r} cannot be read: {reason(error)}"
        ) from error
    kind = data.get("kind") if isinstance(data, dict) else None
    if not isinstance(kind, str) or kind not in KINDS:
        raise CheckpointError(f"{CONFIG_FILE} of model {folder.name!r} does not name a model kind")
    if data.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"model {folder.name!r} has format {shown(data.get('format'))}; "
            f"this version reads format {FORMAT_VERSION}"
        )
    for part in ("tokenizer", "origin"):
        _check_references(folder, part, data.get(part))
    return data


def _check_references(folder: Path, part: str, found: Any) -> None:
    """Raises CheckpointError unless the part is missing or an object of texts."""
    if found is None:
        return
    if not isinstance(found, dict):
        raise CheckpointError(
            f"{CONFIG_FILE} of model {folder.name!r}: {part} must be an object, not {shown(found)}"
        )
    for name, value in found.items():
        if not isinstance(value, str | None):
            raise CheckpointError(
                f"{CONFIG_FILE} of model {folder.name!r}: {part}.{name} must be text, not "
                f"{shown(value)}"
            )


def read_config(folder: Path) -> JsonConfig:
    """The configuration of a model folder of any kind. Raises CheckpointError."""
    data = read_description(folder)
    if "config" not in data:
        raise CheckpointError(f"{CONFIG_FILE} of model {folder.name!r}: config is missing")
    try:
        return KINDS[data["kind"]].from_dict(data["config"])
    except ValueError as error:
        raise CheckpointError(f"{CONFIG_FILE} of model {folder.name!r}: {error}") from error


def load_config(folder: Path, config_type: type[ConfigT]) -> ConfigT:
    """The configuration of a model folder. Raises CheckpointError if it is of another kind."""
    kind = read_description(folder)["kind"]
    if KINDS[kind] is not config_type:
        wanted = next(name for name, found in KINDS.items() if found is config_type)
        raise CheckpointError(f"model {folder.name!r} is a {kind}, and a {wanted} is needed here")
    config = read_config(folder)
    assert isinstance(config, config_type)
    return config


def name_of_folder(folder: Path, other: Path) -> str:
    """How a model in `folder` names another folder: by its way from there, such as '../nano'.

    On Windows a folder on another drive has its whole name. All systems read the same slashes.
    """
    try:
        name = os.path.relpath(other, folder)
    except ValueError:
        name = str(other.absolute())
    return name.replace(os.sep, "/")


def named_folder(folder: Path, name: str) -> Path:
    """The folder that a model names relative to its own, such as '../nano'.

    Where the model is reached by a link, that may be beside the link or beside the model itself.
    """
    beside = Path(os.path.normpath(folder / name))
    if not beside.is_dir() and folder.is_dir():
        beside_model = Path(os.path.normpath(folder.resolve() / name))
        return beside_model if beside_model.is_dir() else beside
    return beside
