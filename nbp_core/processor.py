"""The instruction sets that kernels are written for, and which of them this processor has.

They are in order: each one is preferred to those after it, unless it is slow here.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

import torch

IntegerDot = Literal["quads", "pairs"]
"""int8 dot products: four products of 8 bits per lane, or two of 16 bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructionSet:
    """Instructions that kernels are compiled for."""

    name: str
    words: str
    """Name for display."""
    lanes: int
    """float32 numbers per vector register."""
    num_registers: int = 32
    """Vector registers."""
    has_tiles: bool = False
    """Has matrix tiles (AMX) for bfloat16 and int8."""
    has_bfloat16: bool = False
    """Has dot products of bfloat16 pairs, accumulated in float32."""
    int8: IntegerDot | None = "pairs"
    cpu: str | None = None
    """LLVM's name of a processor with exactly these, used to exclude better ones."""
    onednn: str | None = None
    """oneDNN's name of these instructions, for the same purpose."""


SETS: Final = (
    InstructionSet(
        name="amx", words="AMX tiles of bfloat16 and int8", lanes=16, has_tiles=True,
        has_bfloat16=True, int8="quads",
    ),
    InstructionSet(
        name="avx512-bf16", words="AVX-512 with bfloat16 and VNNI", lanes=16, has_bfloat16=True,
        int8="quads", cpu="cooperlake", onednn="AVX512_CORE_BF16",
    ),
    InstructionSet(
        name="avx512-vnni", words="AVX-512 with VNNI", lanes=16, int8="quads", cpu="cascadelake",
        onednn="AVX512_CORE_VNNI",
    ),
    InstructionSet(
        name="avx512", words="AVX-512", lanes=16, cpu="skylake-avx512", onednn="AVX512_CORE",
    ),
    InstructionSet(
        name="avx2-vnni", words="AVX2 with AVX-VNNI", lanes=8, num_registers=16, int8="quads",
        cpu="alderlake", onednn="AVX2_VNNI",
    ),
    InstructionSet(
        name="avx2", words="AVX2", lanes=8, num_registers=16, cpu="haswell", onednn="AVX2",
    ),
    InstructionSet(
        name="neon-bf16", words="NEON with bfloat16 and dot products", lanes=4, has_bfloat16=True,
        int8="quads",
    ),
    InstructionSet(
        name="neon-dot", words="NEON with dot products", lanes=4, int8="quads",
    ),
    InstructionSet(name="neon", words="NEON", lanes=4, int8=None),
)  # fmt: skip


def sets_here() -> list[InstructionSet]:
    """The instruction sets of this processor, best first."""
    return [found for found in SETS if _has(found)]


@cache
def _has(found: InstructionSet) -> bool:
    """Whether the processor has a set and the system allows its use."""
    can = torch.cpu.get_capabilities()
    if found.lanes == 4:
        is_arm = platform.machine().lower() in ("arm64", "aarch64")
        has_dots = bool(can.get("dot")) or found.int8 is None
        return is_arm and has_dots and (bool(can.get("bf16")) or not found.has_bfloat16)
    vectors = torch.backends.cpu.get_cpu_capability()  # ATEN_CPU_CAPABILITY can lower it
    if found.lanes == 8:
        has_vnni = bool(can.get("avx_vnni"))
        return vectors in ("AVX2", "AVX512") and (has_vnni or found.int8 == "pairs")
    has_vnni = bool(can.get("avx512_vnni")) or found.int8 == "pairs"
    has_bfloat16 = bool(can.get("avx512_bf16")) or not found.has_bfloat16
    return vectors == "AVX512" and has_vnni and has_bfloat16 and (_tiles() or not found.has_tiles)


def is_slow(found: InstructionSet) -> bool:
    """Whether the sets after this one are faster on this processor.

    Intel's processors take two cycles for the dot product of bfloat16 pairs that others do in one.
    They multiply twice as fast in float32, to which weights are widened.
    """
    is_plain = found.has_bfloat16 and not found.has_tiles
    return is_plain and "Intel" in torch.cpu.get_capabilities().get("cpu_name", "")


@cache
def _tiles() -> bool:
    return bool(torch.cpu._is_amx_tile_supported() and torch.cpu._init_amx())
