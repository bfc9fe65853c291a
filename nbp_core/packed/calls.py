"""Linear layers and sampling as jobs of the compiled kernels, and as calls on tensors.

Imported only when a model is packed, since importing numba takes half a second. Activations are
bfloat16 on processors with bfloat16 products, else float32. Shapes: I inputs, O outputs, M rows,
V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nbp_core.config.sampling import SamplingConfig
from nbp_core.packed.kernels import jobs
from nbp_core.packed.kernels.draws import draw_bytes
from nbp_core.packed.kernels.numbers import IN_USE, LEVEL_BYTES, LEVEL_ZERO, NUMBERS
from nbp_core.packed.kernels.products import arranged, sums_bytes
from nbp_core.packed.kernels.team import the_team
from nbp_core.packed.pages import in_large_pages
from nbp_core.runtime import runtime

FEW_WEIGHTS = 2**24
"""A model with fewer weights is small: one thread reads them in 1 to 2 ms, and a second one gains
little."""
FEW_ROWS = 32
"""Up to this number of rows, the products of a small model take little longer than reading its
weights."""
FEW_MULTIPLICATIONS = 2**32 if IN_USE.has_tiles else 3 * 2**27
"""Up to this number of multiplications per step, a clip on two cores is made faster if one thread
computes the step and one the tokenizer than if both use both cores."""
TINY_WEIGHTS = 3 * 2**21 if IN_USE.has_tiles else 0
"""A step of few rows with fewer weights takes half a millisecond with tiles. Sharing its hundred
jobs with a second thread costs as much as that thread gains."""
KINDS = {
    torch.bfloat16: jobs.PRODUCT,
    torch.float16: jobs.PRODUCT,
    torch.int8: jobs.PRODUCT_INT8,
    torch.uint8: jobs.PRODUCT_INT4,
}
"""The kind of product for each type of packed weights."""
FEW_LOGITS = 2**18
"""One thread samples from fewer logits than these, which takes a tenth of a millisecond."""


class Product:
    """x -> x W^T + b, followed by GELU if `is_gelu_next`.

    weight_OI: bfloat16 or float16; int8; or uint8, which are the int4 weights as indices into
    jobs.LEVELS. int8 and int4 weights have a scale per output, scale_O. Each row of x is then
    quantised too, with a scale of its own.
    """

    def __init__(
        self, weight_OI: Tensor, bias_O: Tensor | None, scale_O: Tensor | None = None
    ) -> None:
        self.num_outputs, self.num_inputs = weight_OI.shape
        self.output_size, self.input_size = map(jobs.padded, weight_OI.shape)
        more = self.output_size - self.num_outputs
        if weight_OI.shape != (self.output_size, self.input_size):
            weight_OI = F.pad(weight_OI, (0, self.input_size - self.num_inputs, 0, more))
        self.num_weights = weight_OI.numel()
        """Number of weights, including padding."""
        self._kind = KINDS[weight_OI.dtype]
        self._correction_O = None if scale_O is None else _correction(weight_OI)
        self.weight = in_large_pages(arranged(weight_OI))
        bias = torch.zeros(self.num_outputs) if bias_O is None else bias_O.float()
        self._bias_O = F.pad(bias, (0, more))
        self._scale_O = None if scale_O is None else F.pad(scale_O, (0, more))
        self.is_gelu_next = False

    def __call__(self, x: Tensor) -> Tensor:
        inputs = F.pad(x.to(NUMBERS), (0, self.input_size - self.num_inputs)).contiguous()
        num_rows = inputs.numel() // self.input_size
        out = inputs.new_empty((*x.shape[:-1], self.output_size))
        levels = Levels(num_rows, self.input_size)
        is_little = num_rows <= FEW_ROWS and self.num_weights < FEW_WEIGHTS
        work = self.jobs(inputs, out, num_rows, levels, threads_for(is_little))
        the_team().do(work, self.scratch_size, is_little)
        return out[..., : self.num_outputs].to(x.dtype)

    @property
    def scratch_size(self) -> int:
        """Bytes of scratch buffer per thread."""
        return sums_bytes(self.input_size)

    def jobs(
        self,
        inputs_MI: Tensor,
        out: Tensor,
        num_rows: int,
        levels: Levels,
        num_threads: int,
        is_added: bool = False,
    ) -> jobs.Jobs:
        """The jobs of this layer for rows of `input_size` numbers.

        Outputs are written to `out`, rows of `output_size` numbers. If `is_added`, they are added
        to it instead, and it is float32. `levels` is the buffer for quantised rows.
        """
        fields = {
            "num_pieces": self.output_size // jobs.PIECE,
            "input": inputs_MI.data_ptr(),
            "output": out.data_ptr(),
            "num_rows": num_rows,
            "row_size": self.input_size,
            "num_outputs": self.output_size,
            "weight": self.weight.data_ptr(),
            "bias": self._bias_O.data_ptr(),
            "num_threads": num_threads,
            "then": jobs.ADD if is_added else jobs.ACTIVATE if self.is_gelu_next else jobs.ROUND,
        }
        if self._scale_O is None or self._correction_O is None:
            return jobs.new_job(self._kind, **fields)
        rounding = jobs.new_job(
            jobs.QUANTIZE,
            num_pieces=num_rows,
            input=inputs_MI.data_ptr(),
            output=levels.numbers.data_ptr(),
            row_size=self.input_size,
            scale=levels.scale_M.data_ptr(),
        )
        fields |= {
            "input": levels.numbers.data_ptr(),
            "input_scale": levels.scale_M.data_ptr(),
            "scale": self._scale_O.data_ptr(),
            "correction": self._correction_O.data_ptr(),
        }
        return np.concatenate([rounding, jobs.new_job(self._kind, **fields)])


def is_alone(num_weights: int, num_rows: int, has_all_cores: bool) -> bool:
    """Whether one thread computes a step of a model with this many weights.

    Unless the step has all cores, the tokenizer decodes meanwhile, and then has the other cores.
    docs/decisions/0009-threads-of-a-step.md.
    """
    if has_all_cores:
        return num_weights < TINY_WEIGHTS and num_rows <= FEW_ROWS
    is_little = runtime().num_threads == 2 and num_weights * num_rows <= FEW_MULTIPLICATIONS
    return num_weights < FEW_WEIGHTS and (num_rows <= FEW_ROWS or is_little)


def threads_for(is_little: bool) -> int:
    """Number of threads that work on a list of jobs: one if there is little work, else all."""
    return 1 if is_little else runtime().num_threads


def _correction(weight_OI: Tensor) -> Tensor:
    """The value (O,), int32, at which each output's sum starts. It cancels LEVEL_ZERO, the offset
    of quantised activations."""
    levels = torch.tensor(jobs.LEVELS, dtype=torch.int8)
    sums = [
        (levels[rows.int()] if rows.dtype == torch.uint8 else rows).sum(1, dtype=torch.int32)
        for rows in torch.split(weight_OI, jobs.PIECE)  # indices take more memory than weights
    ]
    return -LEVEL_ZERO * torch.cat(sums)


class Levels:
    """Buffers for quantised rows and their scales."""

    def __init__(self, num_rows: int, row_size: int) -> None:
        self.numbers = torch.empty(LEVEL_BYTES * num_rows * row_size, dtype=torch.int8)
        self.scale_M = torch.empty(num_rows)


class Drawing:
    """Samples tokens from the rows of one buffer of logits.

    The distribution is that of sampling.filters.sample; the noise differs. With guidance, the rows
    without the condition follow those with it.
    """

    def __init__(self, logits_RV: Tensor, is_guided: bool = False) -> None:
        """Rows may have any stride; the V logits of a row are contiguous."""
        num_rows, vocab = len(logits_RV) // (1 + is_guided), logits_RV.shape[1]
        self._logits_RV = logits_RV  # keeps the memory alive, since jobs hold its address
        self.scratch_size = draw_bytes(vocab)
        self.tokens_R = torch.empty(num_rows, dtype=torch.int64)
        self._seeds_R = torch.empty_like(self.tokens_R)
        self._settings = np.empty(3)
        shared = {
            "num_pieces": num_rows,
            "input": logits_RV.data_ptr(),
            "vocab": vocab,
            "input_step": logits_RV.stride(0),
            "settings": self._settings.ctypes.data,
        }
        drawing = jobs.new_job(
            jobs.DRAW,
            output=self.tokens_R.data_ptr(),
            seeds=self._seeds_R.data_ptr(),
            **shared,
        )
        guiding = [jobs.new_job(jobs.GUIDE, **shared)] if is_guided else []
        self.jobs = np.concatenate([*guiding, drawing])

    def prepare(
        self, todo: jobs.Jobs, config: SamplingConfig, rngs: Sequence[torch.Generator]
    ) -> None:
        """Draws new seeds and writes the sampling settings to `todo`, a list that ends with `jobs`.

        rngs: one per sample. The rows of a sample follow each other, equally many for each sample.
        """
        for rng, seeds in zip(rngs, self._seeds_R.chunk(len(rngs)), strict=True):
            torch.randint(2**62, seeds.shape, generator=rng, out=seeds)
        sharpness = 1 / config.temperature if config.temperature else 0.0
        self._settings[:] = sharpness, config.top_p, config.guidance
        todo[-1].view(jobs.DRAW_JOB)["top_k"] = config.top_k


def draw(logits_RV: Tensor, config: SamplingConfig, rng: torch.Generator) -> Tensor:
    """Samples tokens (R,), int64, from logits."""
    drawing = Drawing(logits_RV)
    drawing.prepare(drawing.jobs, config, [rng])
    the_team().do(drawing.jobs, drawing.scratch_size, logits_RV.numel() < FEW_LOGITS)
    return drawing.tokens_R
