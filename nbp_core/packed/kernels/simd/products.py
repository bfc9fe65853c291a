"""Sums of products in float32, sixteen outputs at once, for processors without matrix tiles.

Weights are float16: half the memory to read, and nothing lost of weights stored so.
"""

from __future__ import annotations

from numba import njit
from torch import Tensor

from nbp_core.packed.kernels.jobs import COMPILED, INPUT, PIECE, ROW_SIZE, ROWS, WEIGHT
from nbp_core.packed.kernels.simd.lanes import AT_ONCE, COLUMNS, sum_row, sum_rows


def arranged(weight_OI: Tensor) -> Tensor:
    """A matrix as products read it: the outputs that are summed up at once side by side."""
    num_outputs, num_inputs = weight_OI.shape
    groups = weight_OI.view(num_outputs // COLUMNS, COLUMNS, num_inputs)
    return groups.transpose(1, 2).contiguous()


def sums_bytes(row_size: int) -> int:
    """Memory that a thread needs of its own, for rows of any size."""
    return 4 * ROWS * PIECE


@njit(**COMPILED)
def sum_up(job, scratch, first, rows, piece):
    """Of up to 16 rows from `first` on, for the 64 outputs of a piece: float32, to the start of a
    thread's scratch."""
    count = job[ROW_SIZE]
    for column in range(0, PIECE, COLUMNS):
        weight = job[WEIGHT] + 2 * count * (PIECE * piece + column)
        row = 0
        while row < rows:
            x, sums = job[INPUT] + 4 * count * (first + row), scratch + 4 * (PIECE * row + column)
            if row + AT_ONCE <= rows:
                sum_rows(x, 4 * count, 4, weight, 2 * COLUMNS, count, sums, 4 * PIECE)
                row += AT_ONCE
            else:
                sum_row(x, 4 * count, 4, weight, 2 * COLUMNS, count, sums, 4 * PIECE)
                row += 1
