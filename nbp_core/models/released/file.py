"""Reads a .pt or .ckpt file without executing anything in it and without holding it in memory.

Input: a path. Output: plain dicts, numbers, argparse.Namespace and memory-mapped tensors. This
module does not know which network the tensors belong to.
"""

from __future__ import annotations

import argparse
import re
import zipfile
from pathlib import Path, PurePosixPath
from pickle import UnpicklingError
from typing import Any

import torch

from nbp_core.memory import is_memory_error

MAX_PICKLE_BYTES = 64 * 2**20
"""Limit of a checkpoint's structure without its tensors; the released ones stay under 1 MB."""


class ReleasedFileError(ValueError):
    """A file that cannot be converted. The message is one sentence for the user."""


def read_released(path: Path) -> dict[str, Any]:
    """The dictionary in a checkpoint file. Its tensors are memory-mapped, never copied.

    Raises ReleasedFileError unless the file is a complete, zip-based PyTorch file of plain data.
    """
    if not path.is_file():
        raise ReleasedFileError(f"there is no file {path.name!r}")
    _check_archive(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            data = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UnpicklingError as error:
        raise ReleasedFileError(_unpickling_sentence(path, str(error))) from error
    except Exception as error:  # a damaged structure may raise anything
        if isinstance(error, OSError) or is_memory_error(error):
            raise
        raise ReleasedFileError(f"{path.name!r} is damaged: its contents do not fit") from error
    if not isinstance(data, dict):
        kind = type(data).__name__
        raise ReleasedFileError(f"{path.name!r} holds a {kind}, not a checkpoint's dictionary")
    return data


def tensors_of(data: dict[Any, Any], num_bytes: int) -> dict[str, torch.Tensor]:
    """The tensors of a dictionary by name.

    Raises ReleasedFileError for a tensor of another kind than weights, and for one larger than its
    file: a strided view can have more elements than the storage behind it.
    """
    tensors = {str(k): v.detach() for k, v in data.items() if isinstance(v, torch.Tensor)}
    memories: set[int] = set()
    for name, tensor in tensors.items():
        is_dense = tensor.layout == torch.strided and not (tensor.is_meta or tensor.is_quantized)
        if not is_dense or tensor.is_complex():
            raise ReleasedFileError(f"tensor {name!r} does not hold plain real numbers")
        if tensor.numel() * tensor.element_size() > num_bytes:
            raise ReleasedFileError(f"tensor {name!r} claims to be larger than its file")
        memory = tensor.untyped_storage().data_ptr()
        if memory in memories:  # such as a head tied to an embedding; safetensors refuses it
            tensors[name] = tensor.clone()
        memories.add(memory)
    return tensors


def _check_archive(path: Path) -> None:
    """Refuses, before unpacking, any archive whose layout differs from that of torch.save."""
    with path.open("rb") as file:
        start = file.read(16)
    entries: list[zipfile.ZipInfo] | None = None
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
    except Exception as error:  # a damaged archive may raise anything
        if is_memory_error(error):
            raise
        raise ReleasedFileError(f"{path.name!r} is damaged: it is not a whole archive") from error
    if entries is None:
        raise ReleasedFileError(_foreign_sentence(path, start))
    names = [PurePosixPath(entry.filename) for entry in entries]
    if any(name.name == "constants.pkl" or "code" in name.parts[1:2] for name in names):
        raise ReleasedFileError(f"{path.name!r} is a TorchScript file: it holds code, not weights")
    structure = [e for e, name in zip(entries, names, strict=True) if name.parts[1:] == _PICKLE]
    if len(structure) != 1:
        raise ReleasedFileError(f"{path.name!r} is an archive, but not one written by PyTorch")
    is_packed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if is_packed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ReleasedFileError(
            f"{path.name!r} has compressed or overlapping parts, which PyTorch never writes"
        )
    if structure[0].file_size > MAX_PICKLE_BYTES:
        raise ReleasedFileError(f"the structure stored in {path.name!r} is too large to be real")


_PICKLE = ("data.pkl",)


def _foreign_sentence(path: Path, start: bytes) -> str:
    """Says what a file that is not an archive seems to be."""
    if not start:
        return f"{path.name!r} is empty"
    if start.startswith(b"PK"):
        return f"{path.name!r} is cut short: the end of its archive is missing"
    if start[8:9] == b"{":
        return f"{path.name!r} is a safetensors file; the released checkpoints are .pt and .ckpt"
    if start.startswith(b"\x80"):
        return (
            f"{path.name!r} is a bare pickle, from before PyTorch 1.6 or not from PyTorch; "
            "such files are not opened"
        )
    if start.startswith((b"<!DOCTYPE", b"<html", b"version https://git-lfs")):
        return f"{path.name!r} is a web page or a pointer file: the download did not succeed"
    return f"{path.name!r} is not a PyTorch checkpoint"


def _unpickling_sentence(path: Path, message: str) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", message)
    if found:
        return (
            f"{path.name!r} asks for the Python class {found[1]}, which a checkpoint of weights "
            "has no need of; nothing of it was run"
        )
    return f"{path.name!r} is damaged, or holds more than weights; nothing of it was run"
