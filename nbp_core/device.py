"""Which device to compute on, what it is good at, and whether a model fits."""

from __future__ import annotations

import platform

import psutil
import torch

from nbp_core.cgroup import memory_left
from nbp_core.processor import is_slow
from nbp_core.runtime import runtime


def choose_device(name: str) -> str:
    """cpu or cuda; of auto, the better one there is. Raises ValueError for one that is missing."""
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu or cuda, not {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("no CUDA device was found; use --device cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def device_name(device: str) -> str:
    """The device in words, for reports."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    found = runtime().instructions
    return f"CPU ({platform.machine()}, {found.words if found else 'nothing compiled'})"


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether PyTorch multiplies bfloat16 faster than float32 on this hardware."""
    if device.type == "cuda":
        return True
    found = runtime().instructions
    return found is not None and found.has_bfloat16 and not is_slow(found)


def free_bytes(device: str) -> int:
    """Memory that a model can still take."""
    if device == "cuda":
        # PyTorch keeps the memory of released models for later ones.
        kept = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return torch.cuda.mem_get_info()[0] + kept
    available = int(psutil.virtual_memory().available)
    left = memory_left()
    return available if left is None else min(available, left)


def check_memory(what: str, num_bytes: int, device: str) -> None:
    """Raises ValueError, with what to do, if so much memory is not free."""
    free = free_bytes(device)
    if free < num_bytes:
        raise ValueError(
            f"{what} needs {num_bytes / 1e9:.1f} GB of memory and {free / 1e9:.1f} GB are free; "
            "close other programs or choose a smaller model"
        )
