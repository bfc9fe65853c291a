"""Packed weights lie in large pages where the system has them."""

from __future__ import annotations

import mmap
import subprocess
import sys

import pytest
import torch

from nbp_core.packed.pages import in_large_pages


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.int8])
def test_matrices_keep_their_values_and_share_no_byte(dtype: torch.dtype) -> None:
    given = [torch.randint(-9, 9, (n, 3, 7), dtype=torch.int8).to(dtype) for n in (1, 64, 5)]
    given[1] = given[1].transpose(0, 2)
    kept = [in_large_pages(matrix) for matrix in given]
    for matrix, copy in zip(given, kept, strict=True):
        assert torch.equal(matrix, copy)
        assert copy.is_contiguous()
        assert copy.data_ptr() % 64 == 0
    kept[1].zero_()
    assert torch.equal(given[0], kept[0])
    assert torch.equal(given[2], kept[2])


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE"), reason="needs Linux")
def test_a_matrix_may_be_larger_than_an_area_and_its_memory_is_freed() -> None:
    """In a process of its own, whose memory nothing else changes."""
    program = """
import gc, psutil, torch
from nbp_core.packed.pages import AREA, in_large_pages
rss = lambda: psutil.Process().memory_info().rss
before, kept = rss(), in_large_pages(torch.ones(4 * AREA, dtype=torch.int8))
print(int(kept.sum(dtype=torch.int64)) - 4 * AREA, (rss() - before) / AREA)
del kept
in_large_pages(torch.ones(AREA, dtype=torch.int8))  # a new area takes the place of the old one
gc.collect()
print((rss() - before) / AREA)
"""
    command = [sys.executable, "-c", program]
    printed = subprocess.run(command, capture_output=True, check=True, text=True, timeout=120)
    missing, held, left = map(float, printed.stdout.split())
    assert missing == 0
    assert held > 3.9
    assert left < 2.5


def test_a_system_without_large_pages_has_a_copy_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(mmap, "MADV_HUGEPAGE", raising=False)
    matrix = torch.arange(12).view(3, 4).T
    kept = in_large_pages(matrix)
    assert torch.equal(kept, matrix)
    assert kept.is_contiguous()
