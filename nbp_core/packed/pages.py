"""Memory in large pages for packed weights.

A processor finds the physical address of each page in a table. A step reads every weight once, so
pages of 4 KiB make it look up one address per 64 cache lines, and in a virtual machine each look-up
reads two tables. Linux gives pages of 2 MiB to programs that ask for them.
"""

from __future__ import annotations

import mmap
import threading
from contextlib import suppress
from typing import Final

import torch
from torch import Tensor

from nbp_core.packed.kernels.jobs import LINE

PAGE: Final = 2**21
"""Bytes of a large page."""
AREA: Final = 16 * PAGE
"""Bytes of address space that small matrices share. Pages that nothing is written to take no
memory."""
_lock = threading.Lock()
_area: list[Tensor] = []
"""The free rest of the area in use."""


def in_large_pages(weights: Tensor) -> Tensor:
    """A contiguous copy of a matrix in large pages, or in any where the system has no large ones.

    The memory is freed with the last matrix of its area.
    """
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return weights.contiguous()
    taken = _take(weights.nbytes)
    return taken.view(weights.dtype).view(weights.shape).copy_(weights)


def _take(num_bytes: int) -> Tensor:
    size = -(-num_bytes // LINE) * LINE
    with _lock:
        if not _area or len(_area[0]) < size:
            _area[:] = [_new_area(max(AREA, size))]
        taken, _area[0] = _area[0][:num_bytes], _area[0][size:]
    return taken


def _new_area(num_bytes: int) -> Tensor:
    """Bytes that start at a large page."""
    memory = mmap.mmap(-1, num_bytes + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a system without large pages: the memory is as good as any
        memory.madvise(mmap.MADV_HUGEPAGE)
    area = torch.frombuffer(memory, dtype=torch.uint8)
    return area[-area.data_ptr() % PAGE :][:num_bytes]
