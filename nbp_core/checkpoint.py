"""A model is a folder: config.json + model.safetensors (+ README.md, its card). Never a pickle."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from nbp_core.config import FORMAT_VERSION, JsonConfig, TokenizerConfig, TransformerConfig

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CARD_FILE = "README.md"
KINDS: dict[str, type[JsonConfig]] = {
    "tokenizer": TokenizerConfig,
    "transformer": TransformerConfig,
}

ConfigT = TypeVar("ConfigT", bound=JsonConfig)
ModelT = TypeVar("ModelT", bound=nn.Module)


class CheckpointError(ValueError):
    """A model folder that cannot be used; the message is one sentence for its user."""


def read_description(folder: Path) -> dict[str, Any]:
    """config.json of a model folder: format, kind, config and, of a transformer, its tokenizer."""
    path = folder / CONFIG_FILE
    if not folder.is_dir():
        raise CheckpointError(f"there is no model folder {folder.name!r}")
    if not path.is_file():
        raise CheckpointError(f"model folder {folder.name!r} has no {CONFIG_FILE}")
    try:
        data = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{CONFIG_FILE} of model {folder.name!r} is not JSON") from error
    if not isinstance(data, dict) or data.get("kind") not in KINDS:
        raise CheckpointError(f"{CONFIG_FILE} of model {folder.name!r} does not name a model kind")
    if data.get("format") != FORMAT_VERSION:
        raise CheckpointError(
            f"model {folder.name!r} has format {data.get('format')}; "
            f"this version reads format {FORMAT_VERSION}"
        )
    return data


def load_config(folder: Path, config_type: type[ConfigT]) -> ConfigT:
    """The configuration of a model folder. Raises CheckpointError if it is of another kind."""
    data = read_description(folder)
    if KINDS[data["kind"]] is not config_type:
        raise CheckpointError(
            f"model {folder.name!r} is a {data['kind']}, which is not wanted here"
        )
    try:
        return config_type.from_dict(data["config"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{CONFIG_FILE} of model {folder.name!r}: {error}") from error


def load_model(
    folder: Path,
    config_type: type[ConfigT],
    build: Callable[[ConfigT], ModelT],
    *,
    device: str | torch.device,
    dtype: torch.dtype,
) -> ModelT:
    """The model of a folder, in evaluation mode, every weight accounted for.

    Raises CheckpointError for a missing or corrupt file and for weights that do not fit the config.
    """
    config = load_config(folder, config_type)
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise CheckpointError(f"model folder {folder.name!r} has no {WEIGHTS_FILE}")
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{WEIGHTS_FILE} of model {folder.name!r} is corrupt") from error
    model = build(config)
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    if {name: tensor.shape for name, tensor in weights.items()} != shapes:
        raise CheckpointError(
            f"{WEIGHTS_FILE} of model {folder.name!r} does not fit its {CONFIG_FILE}"
        )
    # assign: the file's tensors become the parameters, so a model is never held twice.
    model.load_state_dict({k: v.to(dtype) for k, v in weights.items()}, strict=True, assign=True)
    return model.to(device).eval().requires_grad_(False)


def save_model(
    folder: Path,
    kind: str,
    config: JsonConfig,
    weights: dict[str, torch.Tensor],
    *,
    dtype: torch.dtype = torch.float16,
    tokenizer: dict[str, str] | None = None,
    metadata: dict[str, str] | None = None,
) -> None:
    """Writes config.json and model.safetensors; metadata goes into the safetensors header."""
    folder.mkdir(parents=True, exist_ok=True)
    description: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "kind": kind,
        "config": config.to_dict(),
    }
    if tokenizer is not None:
        description["tokenizer"] = tokenizer
    tensors = {
        name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in weights.items()
    }
    save_file(tensors, folder / WEIGHTS_FILE, metadata=metadata)
    (folder / CONFIG_FILE).write_text(json.dumps(description, indent=2) + "\n")


def weights_sha256(folder: Path) -> str:
    """Fingerprint of a model folder's weights."""
    path = folder / WEIGHTS_FILE
    if not path.is_file():
        raise CheckpointError(f"model folder {folder.name!r} has no {WEIGHTS_FILE}")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class ModelSummary:
    """What a model folder holds, told without loading it. `name` is the folder's."""

    name: str
    kind: str
    num_parameters: int
    num_bytes: int
    actions: tuple[str, ...]


def describe_models(folder: Path) -> list[ModelSummary]:
    """The models in a folder of models, by name. Raises CheckpointError if one cannot be read."""
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder.name!r} with models")
    return [_summary(path.parent) for path in sorted(folder.glob(f"*/{CONFIG_FILE}"))]


def _summary(folder: Path) -> ModelSummary:
    data = read_description(folder)
    path = folder / WEIGHTS_FILE
    try:
        with safe_open(path, "pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{WEIGHTS_FILE} of model {folder.name!r} cannot be read") from error
    return ModelSummary(
        name=folder.name,
        kind=data["kind"],
        num_parameters=sum(math.prod(shape) for shape in shapes),
        num_bytes=path.stat().st_size,
        actions=tuple(data["config"].get("actions", ())),
    )
