"""Linear layers whose weights are packed for decoding.

Input: linear layers of a checkpoint. Output: modules with the same call. A decode step reads every
weight but has only one to some dozens of rows, so reading the weights determines its time: half the
bytes take half the time. docs/decisions/0008-packed-weights.md has measurements.
Shapes: O outputs, I inputs, M rows (any leading dimensions).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from nbp_core.packed.formats import STORED, WeightFormat, compute_dtype, formats_on
from nbp_core.packed.kernels.jobs import LEVELS

SHARES: Final = (0.6, 0.7, 0.8, 0.9, 1.0)
"""Fractions of an output's largest weight. int4 tries each as the value of the largest level:
clipping a few weights can cost less accuracy than coarser levels for all."""
TRIED_WEIGHTS = 128
"""Number of an output's weights on which the fractions are compared."""
PART_WEIGHTS = 2**20
"""Number of weights that are quantised at a time."""
NEAREST = np.abs(np.arange(-127, 128)[:, None] - np.array(LEVELS)).argmin(1).astype(np.uint8)
"""Index of the level nearest to a whole number from -127 to 127, at entry number + 127."""


class CompiledLinear(nn.Module):
    """x -> x W^T + b with packed weights, optionally followed by GELU.

    Packed weights are not parameters and cannot be saved. The layer runs on the kernels' own
    thread pool.
    """

    def __init__(
        self, weight_OI: Tensor, bias_O: Tensor | None, scale_O: Tensor | None = None
    ) -> None:
        # Imported here because it loads a compiler.
        from nbp_core.packed.calls import Product

        super().__init__()
        self.product = Product(weight_OI, bias_O, scale_O)
        self.num_weights = weight_OI.numel()
        self.num_bytes = self.product.weight.nbytes
        """Bytes of the matrix; biases and scales are a thousandth of it."""

    def forward(self, x_MI: Tensor) -> Tensor:
        return self.product(x_MI)


def held_bytes(module: nn.Module) -> int:
    """Bytes of all weights of a module, including packed ones."""
    plain = sum(p.numel() * p.element_size() for p in module.parameters())
    return plain + sum(m.num_bytes for m in module.modules() if isinstance(m, CompiledLinear))


def matrix_weights(module: nn.Module) -> int:
    """Number of weights in all matrices of a module, including packed ones."""
    plain = sum(p.numel() for p in module.parameters() if p.ndim == 2)
    return plain + sum(m.num_weights for m in module.modules() if isinstance(m, CompiledLinear))


@torch.no_grad()
def pack_linear(weight_OI: Tensor, bias_O: Tensor | None, weights: WeightFormat) -> nn.Module:
    """The fastest layer for these weights in a format: packed, or plain where packing gains
    nothing."""
    if weight_OI.is_cuda or weights not in formats_on("cpu") or weights == "float32":
        return _plain(weight_OI, bias_O, compute_dtype(weights))
    if weights == "int8":
        rounded_OI, scale_O = _by_rows(_rounded, weight_OI, torch.int8)
        return CompiledLinear(rounded_OI, bias_O, scale_O)
    if weights == "int4":
        places_OI, scale_O = _by_rows(_levelled, weight_OI, torch.uint8)
        return CompiledLinear(places_OI, bias_O, scale_O)
    return CompiledLinear(weight_OI.to(STORED[weights]), bias_O)


def pack_linears(layer: nn.Module, weights: WeightFormat, pool: ThreadPoolExecutor) -> None:
    """Packs all linear layers of a module in place, one matrix per thread, because packing is the
    slowest part of loading."""
    linears = [
        (module, name, part)
        for module in layer.modules()
        for name, part in module.named_children()
        if isinstance(part, nn.Linear)
    ]
    packed = pool.map(lambda found: pack_linear(found[2].weight, found[2].bias, weights), linears)
    for (module, name, _), part in zip(linears, packed, strict=True):
        setattr(module, name, part)
    for part in layer.modules():
        if isinstance(part, nn.Sequential) and isinstance(part[0], CompiledLinear):
            part[0].product.is_gelu_next = True
            part[1] = nn.Identity()


def _plain(weight_OI: Tensor, bias_O: Tensor | None, dtype: torch.dtype) -> nn.Linear:
    linear = nn.Linear(1, 1, bias=bias_O is not None, device="meta")
    linear.out_features, linear.in_features = weight_OI.shape
    weight = weight_OI.to(dtype)
    if not weight.is_cuda:
        # Stored by input: MKL multiplies some dozens of rows 1.5 times as fast as by output.
        weight = weight.T.contiguous().T
    linear.weight = nn.Parameter(weight, requires_grad=False)
    if bias_O is not None:
        linear.bias = nn.Parameter(bias_O.to(dtype), requires_grad=False)
    return linear


def _rounded(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Rounds weights to int8 with a scale for each output."""
    weight = weight_OI.float()
    scale_O = weight.abs().amax(1).clamp_min(1e-8) / 127
    return (weight / scale_O[:, None]).round_().to(torch.int8), scale_O


def _levelled(weight_OI: Tensor) -> tuple[Tensor, Tensor]:
    """Weights as indices (uint8) of the nearest of LEVELS, and a scale for each output.

    Of a few scales, each output takes the one with the least squared error.
    """
    weight, levels = weight_OI.float(), torch.tensor(LEVELS, dtype=torch.float32)
    tried = weight[:, :: -(-weight.shape[1] // TRIED_WEIGHTS)]
    largest_O1 = weight.abs().amax(1, keepdim=True).clamp_min(1e-8) / LEVELS[-1]
    losses = []
    for share in SHARES:
        scaled = tried / (share * largest_O1)
        lost = levels[_nearest(scaled).int()] - scaled
        losses.append(share**2 * lost.square().sum(1))
    scale_O = largest_O1[:, 0] * torch.tensor(SHARES)[torch.stack(losses).argmin(0)]
    return _nearest(weight / scale_O[:, None]), scale_O


def _nearest(scaled: Tensor) -> Tensor:
    """Indices (uint8) of the nearest of LEVELS.

    Rounding to whole numbers and looking them up in a table takes a quarter of the time of
    comparing with sixteen levels.
    """
    whole = scaled.round().clamp_(-127, 127).add_(127).byte()
    return torch.from_numpy(NEAREST[whole.numpy()])


def _by_rows(
    work: Callable[[Tensor], tuple[Tensor, Tensor]], weight_OI: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Applies `work` to some outputs at a time, which keeps its intermediate results small."""
    num_rows = max(1, PART_WEIGHTS // weight_OI.shape[1])
    numbers_OI = weight_OI.new_empty(weight_OI.shape, dtype=dtype)
    scale_O = weight_OI.new_empty(len(weight_OI), dtype=torch.float32)
    wholes = (weight_OI, numbers_OI, scale_O)
    for weight, numbers, scale in zip(*(torch.split(x, num_rows) for x in wholes), strict=True):
        numbers[:], scale[:] = work(weight)
    return numbers_OI, scale_O
