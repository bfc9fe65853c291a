"""Number formats of packed weights, and which of them a device has."""

from __future__ import annotations

from typing import Final, Literal

import torch

from nbp_core.device import has_fast_bfloat16, has_vectors

WeightFormat = Literal["float32", "float16", "bfloat16", "int8", "int4"]


STORED: Final[dict[WeightFormat, torch.dtype]] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.float16,
    "int4": torch.float16,
}
"""The type to load weights in before they are packed; embedding tables stay in it."""


CPU = torch.device("cpu")


def formats_on(device: str) -> tuple[WeightFormat, ...]:
    """The formats a device has; the first is that of weights nobody asked to be smaller.

    bfloat16 where the hardware multiplies it; else float16, which is computed with in float32 and
    loses nothing of weights stored so; float32 on processors without AVX2. int8 on x86 processors,
    int4 on those with matrix tiles.
    """
    is_fast = has_fast_bfloat16(torch.device(device))
    is_packable = device == "cpu" and has_vectors()
    usual: WeightFormat = "bfloat16" if is_fast else "float16" if is_packable else "float32"
    if not is_packable:
        return (usual,)
    return (usual, "int8", "int4") if is_fast else (usual, "int8")


def choose_format(device: str, int8: bool = False, int4: bool = False) -> WeightFormat:
    """How a model's weights are held on a device: as `formats_on` has it, if neither is asked for.
    Raises ValueError for what it does not have, and for both."""
    if int8 and int4:
        raise ValueError("weights are either int8 or int4: leave one of them out")
    found = formats_on(device)
    if int8 and "int8" not in found:
        raise ValueError("int8 weights are for x86 processors: leave them out on this device")
    if int4 and "int4" not in found:
        raise ValueError(
            "int4 weights are for processors with matrix tiles (AMX): leave them out on this device"
        )
    return "int8" if int8 else "int4" if int4 else found[0]


def compute_dtype(weights: WeightFormat) -> torch.dtype:
    """The type of activations and of the cache."""
    is_half = weights == "bfloat16" or (weights in ("int8", "int4") and has_fast_bfloat16(CPU))
    return torch.bfloat16 if is_half else torch.float32
