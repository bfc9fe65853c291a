"""What compiled kernels run on: the instructions and threads that a process chooses once.

numba compiles kernels for one instruction set and one number format when they are first imported.
So a process has one runtime. A program that wants another than the default starts it first.
"""

from __future__ import annotations

import math
import os
import threading
from dataclasses import dataclass

import torch

from nbp_core.cgroup import processors
from nbp_core.processor import SETS, InstructionSet, is_slow, sets_here

NO_INSTRUCTIONS = "none"
"""The name that turns compiled kernels off; PyTorch then computes everything."""
INSTRUCTION_NAMES = (*(found.name for found in SETS), NO_INSTRUCTIONS)


@dataclass(frozen=True, kw_only=True, slots=True)
class Runtime:
    """The instructions and threads of this process."""

    instructions: InstructionSet | None
    """None where PyTorch computes everything: on processors that no kernel is written for, or
    because it was asked for."""
    num_threads: int
    """Threads of compiled kernels, the calling one included."""
    is_limited: bool = False
    """Whether the instructions were chosen, so that the compiler may not use better ones."""

    @property
    def limit(self) -> str | None:
        """The name with which `start` chooses the same instructions; None for the default."""
        if not self.is_limited:
            return None
        return NO_INSTRUCTIONS if self.instructions is None else self.instructions.name


_lock = threading.Lock()
_started: list[Runtime] = []


def start(instructions: str | None = None, num_threads: int | None = None) -> Runtime:
    """Starts this process' runtime, before the first model is packed.

    instructions: the best instruction set to use, of INSTRUCTION_NAMES; by default the best one
        that this processor has. Better ones are left out, so that their gain can be measured.
    num_threads: threads of kernels and of PyTorch; by default as many as PyTorch has,
        and no more than a container has processors.
    Raises ValueError for an unknown name, a number under 1, or if another runtime has started.
    """
    if instructions is not None and instructions not in INSTRUCTION_NAMES:
        names = ", ".join(INSTRUCTION_NAMES)
        raise ValueError(f"instructions must be one of {names}, not {instructions!r}")
    if num_threads is not None and num_threads < 1:
        raise ValueError(f"the number of threads must be at least 1, not {num_threads}")
    with _lock:
        if not _started:
            _set_threads(num_threads)
        chosen = Runtime(
            instructions=_best(instructions),
            num_threads=num_threads or torch.get_num_threads(),
            is_limited=instructions is not None,
        )
        if _started and _started[0] != chosen:
            raise ValueError("instructions and threads can only be chosen before any model is used")
        if chosen.is_limited and chosen.instructions is not None and chosen.instructions.onednn:
            # PyTorch's convolutions and products too. oneDNN reads it at its first call.
            os.environ["ONEDNN_MAX_CPU_ISA"] = chosen.instructions.onednn
        _started[:] = [chosen]
        return chosen


def runtime() -> Runtime:
    """This process' runtime, started with the defaults if nothing else was chosen."""
    return _started[0] if _started else start()


def _set_threads(chosen: int | None) -> None:
    most = processors()
    if chosen is None and most is not None and most < torch.get_num_threads():
        chosen = math.ceil(most)
    if chosen is not None:
        torch.set_num_threads(chosen)


def _best(limit: str | None) -> InstructionSet | None:
    """The set that is asked for, or the best one below it."""
    if limit == NO_INSTRUCTIONS:
        return None
    names = [found.name for found in SETS]
    first = 0 if limit is None else names.index(limit)
    below = [found for found in sets_here() if names.index(found.name) >= first]
    asked = [found for found in below if found.name == limit or not is_slow(found)]
    return asked[0] if asked else None
