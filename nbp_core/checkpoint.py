"""A model is a folder: config.json + model.safetensors (+ README.md, its card). Never a pickle.

Weights above 5 GB lie in several shards with an index beside them, as is usual for safetensors.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from huggingface_hub import split_torch_state_dict_into_shards
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torch.overrides import TorchFunctionMode

from nbp_core.config.description import (
    CONFIG_FILE,
    CheckpointError,
    load_config,
    read_config,
    read_description,
)
from nbp_core.config.json import JsonConfig
from nbp_core.config.shapes import FORMAT_VERSION
from nbp_core.config.weight_files import (
    INDEX_FILE,
    WEIGHTS_FILE,
    open_weights,
    weight_files,
)
from nbp_core.interrupt import unfinished_folder

MAX_SHARD_BYTES = 5 * 10**9
CARD_FILE = "README.md"
ConfigT = TypeVar("ConfigT", bound=JsonConfig)
ModelT = TypeVar("ModelT", bound=nn.Module)


def load_model(
    folder: Path,
    config_type: type[ConfigT],
    build: Callable[[ConfigT], ModelT],
    *,
    device: str | torch.device,
    dtype: torch.dtype,
) -> ModelT:
    """Loads the model of a folder: in evaluation mode, without gradients, on `device` in `dtype`.

    build makes the model from its config. Raises CheckpointError for a missing or corrupt file, for
    a folder of another kind, and for weights whose names or shapes do not fit the config.
    """
    config = load_config(folder, config_type)
    with without_weights():
        model = build(config)
    load_weights(model, folder, dtype)
    return model.to(device).eval().requires_grad_(False)


class without_weights(TorchFunctionMode):  # noqa: N801 (a context manager)
    """Modules built inside allocate no parameters and draw no random numbers; buffers are real.

    `torch.device("meta")` leaves buffers unset too, and initialising there takes seconds.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def load_weights(model: torch.nn.Module, folder: Path, dtype: torch.dtype = torch.float32) -> None:
    """Loads the weights of a folder into the model; names and shapes must be the model's.

    Raises CheckpointError for a corrupt file, for weights of other names or shapes and for weights
    that are not finite numbers in `dtype`.
    """
    stored = StoredWeights.of(folder, model)
    model.load_state_dict(stored.read(list(stored.files), dtype), strict=True, assign=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredWeights:
    """The weights in a model folder. They are memory-mapped, so each is read when it is used."""

    folder: Path
    files: Mapping[str, Path]
    """Name of a weight -> the file that holds it."""

    @classmethod
    def of(cls, folder: Path, model: nn.Module) -> Self:
        """The folder's weights. Raises CheckpointError unless names and shapes are the model's."""
        files, shapes = {}, {}
        for path in weight_files(folder):
            with _open_tensors(path) as file:
                for name in file.keys():  # noqa: SIM118
                    files[name] = path
                    shapes[name] = tuple(file.get_slice(name).get_shape())
        if shapes != {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}:
            raise CheckpointError(
                f"the weights of model {folder.name!r} do not fit the configuration"
            )
        return cls(folder=folder, files=files)

    def read(self, names: Sequence[str], dtype: torch.dtype) -> dict[str, torch.Tensor]:
        """The named weights in `dtype`. Raises CheckpointError for infinite numbers and NaN."""
        weights: dict[str, torch.Tensor] = {}
        for path in dict.fromkeys(self.files[name] for name in names):
            with _open_tensors(path) as file:
                for name in names:
                    if self.files[name] == path:
                        stored = file.get_tensor(name)
                        if stored.is_complex():
                            raise CheckpointError(
                                f"the weights of model {self.folder.name!r} are not all real "
                                f"numbers (in {name})"
                            )
                        weights[name] = stored.to(dtype)
        for name, tensor in weights.items():
            # The extremes of a tensor with a NaN are NaN.
            if tensor.numel() and not torch.stack(tensor.aminmax()).isfinite().all():
                raise CheckpointError(
                    f"the weights of model {self.folder.name!r} are not all finite numbers"
                    f" (in {name})"
                )
        return weights

    def fill(self, module: nn.Module, prefix: str, dtype: torch.dtype) -> None:
        """Loads the missing weights of a module, whose names in the model begin with `prefix`."""
        for name in lacking(module):
            # One at a time: what is mapped counts as memory until all of it is let go.
            (weight,) = self.read([prefix + name], dtype).values()
            module.load_state_dict({name: weight}, strict=False, assign=True)


def lacking(module: nn.Module) -> list[str]:
    """Names of the parameters that have no weights yet, as modules built `without_weights`."""
    return [name for name, parameter in module.named_parameters() if parameter.is_meta]


def save_model(
    folder: Path,
    kind: str,
    config: JsonConfig,
    weights: Mapping[str, torch.Tensor],
    *,
    dtype: torch.dtype | None = torch.float16,
    tokenizer: Mapping[str, str | None] | None = None,
    origin: Mapping[str, str | None] | None = None,
    metadata: dict[str, str] | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    on_progress: Callable[[int], object] | None = None,
) -> None:
    """Writes config.json and the weights into a model folder, one shard in memory at a time.

    kind: a name in KINDS. dtype: None keeps that of the weights. tokenizer: the reference to a
    transformer's tokenizer. origin: where converted weights come from. metadata: text for the
    safetensors header. on_progress: receives the bytes of each part of `weights` once written.
    An earlier model stays intact until the new one is complete. Raises OSError or CheckpointError
    if the disk is full or refuses; nothing half-written remains.
    """
    folder.mkdir(parents=True, exist_ok=True)
    description: dict[str, Any] = {
        "format": FORMAT_VERSION,
        "kind": kind,
        "config": config.to_dict(),
    }
    for name, entry in (("tokenizer", tokenizer), ("origin", origin)):
        if entry is not None:
            description[name] = dict(entry)
    split = split_torch_state_dict_into_shards(
        dict(weights),
        max_shard_size=max_shard_bytes,
        filename_pattern=WEIGHTS_FILE.replace(".", "{suffix}.", 1),
    )
    texts = {CONFIG_FILE: description}
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        texts = {INDEX_FILE: index, **texts}
    try:
        with unfinished_folder(folder) as partial:
            for file_name, names in split.filename_to_tensors.items():
                shard = {name: _stored(weights[name], dtype) for name in names}
                save_file(shard, partial / file_name, metadata=metadata)
                _set_usual_mode(partial / file_name)
                del shard
                if on_progress is not None:
                    on_progress(sum(weights[name].nbytes for name in names))
            for file_name, data in texts.items():
                (partial / file_name).write_text(json.dumps(data, indent=2) + "\n")
            if not split.is_sharded:
                (folder / INDEX_FILE).unlink(missing_ok=True)
            for file_name in (*split.filename_to_tensors, *texts):
                (partial / file_name).replace(folder / file_name)
    except SafetensorError as error:
        raise CheckpointError(f"model {folder.name!r} cannot be written: {error}") from error


def _stored(weight: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
    """The weight as it is written; dtype None keeps its own."""
    return weight.detach().to("cpu", dtype or weight.dtype).contiguous()


def _set_usual_mode(path: Path) -> None:
    """Gives the file the permissions of the umask, since safetensors allows its owner only.

    They are copied from a new empty file: reading the umask would change it for all threads.
    """
    usual = path.with_name(f".{path.name}.{os.getpid()}.mode")
    usual.touch()
    try:
        path.chmod(usual.stat().st_mode)
    finally:
        usual.unlink()


@contextmanager
def _open_tensors(path: Path) -> Iterator[Any]:
    """safetensors' reader of a file of weights. Raises CheckpointError as open_weights does."""
    with open_weights(path), _with_plain_name(path) as plain, safe_open(plain, "pt") as file:
        yield file


@contextmanager
def _with_plain_name(path: Path) -> Iterator[Path]:
    """The path, or a link to it where its name is not valid Unicode, which safetensors refuses."""
    if _is_unicode(str(path)):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="nbp-") as folder:
        link = Path(folder, WEIGHTS_FILE)
        link.symlink_to(path.absolute())
        yield link


def _is_unicode(name: str) -> bool:
    """Whether a name can be shown and sent: a file's may also be other bytes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@dataclass(frozen=True)
class ModelSummary:
    """A description of a model folder, made without loading weights. `name` is the folder's."""

    name: str
    kind: str
    num_parameters: int
    num_bytes: int
    actions: tuple[str, ...]


def describe_models(folder: Path) -> tuple[list[ModelSummary], list[str]]:
    """(the models in a folder of models, by name; a sentence for each that cannot be used).

    Raises CheckpointError if there is no such folder.
    """
    if not folder.is_dir():
        raise CheckpointError(f"there is no folder {folder.name!r} with models")
    models: list[ModelSummary] = []
    faults: list[str] = []
    for path in sorted(folder.glob(f"*/{CONFIG_FILE}")):
        if not _is_unicode(path.parent.name):
            faults.append(f"model folder {path.parent.name!r} has a name that is not valid Unicode")
            continue
        try:
            models.append(summarize(path.parent))
        except CheckpointError as error:
            faults.append(str(error))
    return models, faults


def model_kind(folder: Path) -> str | None:
    """The kind of a model folder, a name in KINDS; None for another folder.

    Raises CheckpointError for a broken config.json.
    """
    return str(read_description(folder)["kind"]) if (folder / CONFIG_FILE).is_file() else None


def summarize(folder: Path) -> ModelSummary:
    """The description of a model folder. Raises CheckpointError if it cannot be read."""
    config = read_config(folder)
    shapes: list[list[int]] = []
    paths = weight_files(folder)
    for path in paths:
        with _open_tensors(path) as file:
            shapes += [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    return ModelSummary(
        name=folder.name,
        kind=read_description(folder)["kind"],
        num_parameters=sum(math.prod(shape) for shape in shapes),
        num_bytes=sum(path.stat().st_size for path in paths),
        actions=getattr(config, "actions", ()),
    )
