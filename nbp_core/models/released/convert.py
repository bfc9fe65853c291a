"""The paper's released checkpoints -> our model folders.

Input: a file as the authors save it (magvit2_*.pt, *_nbp16*.ckpt). Output: a model folder, or
nothing on failure. Source of the names and of the sequence rules: the released code.
"""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nbp_core.checkpoint import save_model, without_weights
from nbp_core.interrupt import unfinished_folder
from nbp_core.media.files import MediaError, try_writing
from nbp_core.models.released.file import ReleasedFileError, read_released, tensors_of
from nbp_core.models.released.networks import (
    SOURCE_TENSOR,
    Released,
    released_tokenizer,
    released_transformer,
)
from nbp_core.tokenizer.model import VideoTokenizer
from nbp_core.transformer.model import BlockTransformer

FAMILIES = ("ucf", "k600")
"""The two data sets of the paper. A transformer and its tokenizer must share one."""
_WRAPPERS = re.compile(r"^(module\.|_forward_module\.)+")
"""The prefix that data-parallel training adds to each name."""
_FOREIGN = {
    "model.diffusion_model.": "a diffusion model",
    "model.layers.0.self_attn": "a language model of the LLaMA kind",
    "h.0.attn.c_attn": "a GPT-2",
    "Conv3d_1a_7x7": "an I3D video classifier",
    "first_stage_model.": "a latent model of another code base",
    "encoder.down.": "a VQGAN-like autoencoder",
    "conv1.weight": "an image classifier",
}


def convert(
    path: Path,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    num_heads: int | None = None,
    family: str | None = None,
    tokenizer: str | None = None,
    on_start: Callable[[Released], Callable[[int], object]] | None = None,
) -> Released:
    """Converts a released file into the new model folder `folder`. dtype None keeps its precision.

    family ("ucf" or "k600") and num_heads are needed only if the file does not name them.
    tokenizer is the folder of the transformer's tokenizer, relative to the new folder. on_start is
    called with the model found and returns a callback that receives the bytes written so far.
    Raises ReleasedFileError, and leaves nothing behind, if the file cannot be converted.
    """
    if folder.exists():
        raise ReleasedFileError(f"{folder.name!r} exists already; name a new folder")
    if not folder.parent.is_dir():
        raise ReleasedFileError(f"there is no folder {folder.parent.name!r} to put it in")
    try:
        try_writing(folder)
    except MediaError as error:
        raise ReleasedFileError(str(error)) from error
    model = understand(path, folder.name, num_heads, family)
    _check_finite(model, dtype)
    on_progress = None if on_start is None else on_start(model)
    origin = {"file": path.name, "family": model.family, "source": model.source}
    reference = None
    if model.kind == "transformer":
        place = tokenizer or f"../magvit2_{model.family}"
        reference = {"folder": place, "family": model.family, "source": model.source}
    with unfinished_folder(folder.parent) as partial:
        save_model(
            partial,
            model.kind,
            model.config,
            model.weights,
            dtype=dtype,
            tokenizer=reference,
            origin=origin,
            on_progress=on_progress,
        )
        partial.rename(folder)
    return model


def understand(
    path: Path, name: str, num_heads: int | None = None, family: str | None = None
) -> Released:
    """Reads a released file: its kind, its configuration, and its tensors under our names."""
    data = read_released(path)
    num_bytes = path.stat().st_size
    inner = next((data[k] for k in ("model_state_dict", "state_dict") if k in data), data)
    tensors = tensors_of(inner, num_bytes) if isinstance(inner, dict) else {}
    tensors = {_WRAPPERS.sub("", key): tensor for key, tensor in tensors.items()}
    args = _arguments(data)
    family = family or _family(path, args)
    if SOURCE_TENSOR in tensors:
        return _check(released_tokenizer(tensors, name, family), VideoTokenizer)
    if "transformer.tok_emb.weight" in tensors:
        return _check(
            released_transformer(tensors, args, name, num_heads, family), BlockTransformer
        )
    raise ReleasedFileError(_foreign_sentence(path, data, tensors))


def _check(model: Released, build: Callable[[Any], torch.nn.Module]) -> Released:
    """Compares every name and shape with the network that the configuration describes."""
    with without_weights():
        wanted = {k: tuple(v.shape) for k, v in build(model.config).state_dict().items()}
    found = {k: tuple(v.shape) for k, v in model.weights.items()}
    odd = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
    if odd:
        want, have = wanted.get(odd[0], "nothing"), found.get(odd[0], "missing")
        raise ReleasedFileError(
            f"{len(odd)} tensors differ from the released architecture; "
            f"{odd[0]} is {have}, where {want} was expected"
        )
    return model


def _check_finite(model: Released, dtype: torch.dtype | None) -> None:
    """Refuses numbers that no model can be loaded with: infinite or NaN, or so in `dtype`."""
    for name, weight in model.weights.items():
        stored = weight.to(dtype or weight.dtype)
        if not torch.stack(stored.float().aminmax()).isfinite().all():
            number = str(stored.dtype).removeprefix("torch.")
            raise ReleasedFileError(f"tensor {name!r} has numbers that are not finite in {number}")


def _arguments(data: dict[Any, Any]) -> dict[str, Any]:
    """The training arguments stored in a transformer's file, or an empty dict."""
    stored = data.get("hyper_parameters")
    args = stored.get("args") if isinstance(stored, dict) else None
    return dict(vars(args)) if isinstance(args, Namespace) else {}


def _family(path: Path, args: dict[str, Any]) -> str | None:
    """The data set, from the file's name or from the paths in its training arguments."""
    names = [path.name, *(str(v) for k, v in args.items() if "path" in k or "data" in k)]
    for name in names:
        for family in FAMILIES:
            if family in name.lower():
                return family
    return None


def _foreign_sentence(path: Path, data: dict[Any, Any], tensors: dict[str, Tensor]) -> str:
    if not tensors:
        names = ", ".join(repr(str(key)) for key in list(data)[:3])
        return f"{path.name!r} holds no weights, only {names or 'nothing'}"
    seems = next(
        (what for k, what in _FOREIGN.items() if any(n.startswith(k) for n in tensors)), ""
    )
    guess = f"; it seems to be {seems}" if seems else ""
    return (
        f"{path.name!r} is neither a released tokenizer nor a released transformer: it holds "
        f"{len(tensors)} tensors such as {min(tensors)!r}{guess}"
    )


DTYPES = {"keep": None, "float16": torch.float16, "bfloat16": torch.bfloat16}
