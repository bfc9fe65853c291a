"""Compiles the repeated parts of a model for training, where that pays.

On a GPU it always does. On a processor it takes half a minute and saves about a seventh of
every step, so it pays for long runs. There it needs a C++ compiler and Python's headers.
"""

from __future__ import annotations

import logging
from functools import cache

import torch
from torch import Tensor, nn

_log = logging.getLogger(__name__)


def compile_parts(model: nn.Module, *kinds: type[nn.Module]) -> None:
    """Compiles the modules of these kinds, for inputs of any size."""
    for module in model.modules():
        if isinstance(module, kinds):
            module.compile(dynamic=True)


def pays_to_compile(device: torch.device, is_long: bool) -> bool:
    """Whether a transformer's run on this device should compile its layers first.

    is_long: whether the run is much longer than the half minute that a processor compiles.
    """
    if device.type == "cuda" or not is_long:
        return device.type == "cuda"
    if can_compile():
        return True
    _log.warning(
        "training without torch.compile, which needs a C++ compiler and Python's headers; "
        "with them, steps are about a seventh shorter"
    )
    return False


@cache
def can_compile() -> bool:
    """Whether torch.compile works on this machine's processor, by trying it."""
    try:
        _trial(torch.ones(2))
    except Exception:  # inductor has a dozen ways to say that a compiler is missing or broken
        return False
    return True


@torch.compile(dynamic=True)
def _trial(x: Tensor) -> Tensor:
    return x * 2 + 1
