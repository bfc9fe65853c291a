"""Linear layers and attention in matrix tiles, as calls on tensors; the work is tile_products' and
tile_attention's.

For processors with tiles (device.has_tiles), and imported there alone: numba takes half a second.
bfloat16 in and out. Shapes: I inputs, O outputs, M rows; B batch, K heads, L queries, M keys, E
head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nbp_core import tile_jobs as jobs
from nbp_core.team import the_team


class TileProduct:
    """x -> x W^T + b, and GELU of it if `is_gelu_next`. Weights are bfloat16, or int8 with a scale
    for each output; rows of x then become int8 too, with a scale each."""

    def __init__(
        self, weight_OI: Tensor, bias_O: Tensor | None, scale_O: Tensor | None = None
    ) -> None:
        self.num_outputs, self.num_inputs = weight_OI.shape
        self.weight = jobs.tile_order(weight_OI)
        self.bias_O = torch.zeros(self.num_outputs) if bias_O is None else bias_O.float()
        self.scale_O = scale_O
        self.is_gelu_next = False
        job = jobs.new_job(jobs.PRODUCT if scale_O is None else jobs.PRODUCT_INT8)
        job[jobs.ROW_SIZE] = self.num_inputs * weight_OI.element_size()
        job[jobs.WEIGHT] = self.weight.data_ptr()
        job[jobs.BIAS] = self.bias_O.data_ptr()
        job[jobs.NUM_OUTPUTS] = self.num_outputs
        job[jobs.SCALE] = 0 if scale_O is None else scale_O.data_ptr()
        job[jobs.NUM_PIECES] = self.num_outputs // jobs.PIECE
        self._job = job
        self._team = the_team()

    def __call__(self, x: Tensor) -> Tensor:
        inputs = x.bfloat16().contiguous()
        num_rows = inputs.numel() // self.num_inputs
        out = inputs.new_empty((*x.shape[:-1], self.num_outputs))
        job = self._job.copy()
        job[jobs.NUM_ROWS] = num_rows
        job[jobs.OUTPUT] = out.data_ptr()
        job[jobs.IS_GELU_NEXT] = self.is_gelu_next
        if self.scale_O is not None:
            inputs, scale_M = self._whole(inputs, num_rows)
            job[jobs.INPUT_SCALE] = scale_M.data_ptr()
        job[jobs.INPUT] = inputs.data_ptr()
        self._team.do(job)
        return out.to(x.dtype)

    def _whole(self, x: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
        """Rows as int8, and their scales."""
        levels, scale_M = torch.empty(x.shape, dtype=torch.int8), torch.empty(num_rows)
        job = jobs.new_job(jobs.QUANTIZE)
        job[jobs.INPUT] = x.data_ptr()
        job[jobs.OUTPUT] = levels.data_ptr()
        job[jobs.ROW_SIZE] = self.num_inputs
        job[jobs.INPUT_SCALE] = scale_M.data_ptr()
        job[jobs.NUM_PIECES] = num_rows
        self._team.do(job)
        return levels, scale_M


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(E)) v over all keys; (B, K, L or M, E), values laid out as keys are."""
    batch, num_heads, num_rows, width = query.shape
    out = query.new_empty(batch, num_rows, num_heads, width)
    of_batch, of_head, of_row, _ = query.stride()
    key_of_batch, key_of_head, _, _ = key.stride()
    job = jobs.new_job(jobs.ATTENTION)
    job[jobs.INPUT : jobs.QUERY_OF_ROW + 1] = (
        query.data_ptr(), out.data_ptr(), num_rows, num_heads, width, key.shape[2],
        key.data_ptr(), value.data_ptr(), 2 * key_of_batch, 2 * key_of_head,
        2 * of_batch, 2 * of_head, 2 * of_row,
    )  # fmt: skip
    job[jobs.NUM_PIECES] = batch * num_heads
    the_team().do(job, key.shape[2])
    return out.transpose(1, 2)
