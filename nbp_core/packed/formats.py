"""Number formats of packed weights, and which of them a device has."""

from __future__ import annotations

from typing import Final, Literal

import torch

from nbp_core.runtime import runtime

WeightFormat = Literal["float32", "float16", "bfloat16", "int8", "int4"]


STORED: Final[dict[WeightFormat, torch.dtype]] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "int8": torch.float16,
    "int4": torch.float16,
}
"""The type that weights are loaded in before packing; embedding tables keep it."""

BYTES: Final[dict[WeightFormat, float]] = {
    "float32": 4, "float16": 2, "bfloat16": 2, "int8": 1, "int4": 0.5,
}  # fmt: skip
"""Bytes of a packed weight."""


def formats_on(device: str) -> tuple[WeightFormat, ...]:
    """The weight formats of a device; the first is the default.

    The default is bfloat16 on GPUs and on CPUs with fast bfloat16 products. On other CPUs with
    compiled kernels it is float16, which is widened to float32 for computing and loses nothing of
    weights stored as float16. Without compiled kernels it is float32. int8 and int4 are listed
    where they are faster.
    """
    if device == "cuda":
        return ("bfloat16",)
    found = runtime().instructions
    if found is None:
        return ("float32",)
    usual: WeightFormat = "bfloat16" if found.has_bfloat16 else "float16"
    return (usual,) if found.int8 is None else (usual, "int8", "int4")


def choose_format(device: str, int8: bool = False, int4: bool = False) -> WeightFormat:
    """The weight format for a device: the default of `formats_on`, or the one requested.

    Raises ValueError for a format that the device does not have, and for both at once.
    """
    if int8 and int4:
        raise ValueError("weights are either int8 or int4: leave one of them out")
    found, wanted = formats_on(device), "int8" if int8 else "int4" if int4 else None
    if wanted is not None and wanted not in found:
        where = "a GPU" if device == "cuda" else "this processor"
        raise ValueError(f"{wanted} weights would gain nothing on {where}: leave --{wanted} out")
    return "int8" if int8 else "int4" if int4 else found[0]


def compute_dtype(weights: WeightFormat) -> torch.dtype:
    """The type of activations and of the cache."""
    found = runtime().instructions
    is_packed = weights in ("int8", "int4") and found is not None and found.has_bfloat16
    is_half = weights == "bfloat16" or is_packed
    return torch.bfloat16 if is_half else torch.float32
