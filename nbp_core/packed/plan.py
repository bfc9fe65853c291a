"""Fused decode steps of a packed model: all layers, optionally the head and sampling, as one list
of jobs.

Imported when a model is packed, since importing numba takes half a second. Shapes: B sequences, L
new positions, M = B L rows, D width, E head width, H hidden width.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from nbp_core.config.sampling import SamplingConfig
from nbp_core.packed.calls import Drawing, Levels, Product, is_alone, threads_for
from nbp_core.packed.kernels import jobs
from nbp_core.packed.kernels.attention import HEAD_WIDTHS, attention_bytes
from nbp_core.packed.kernels.numbers import NUMBERS
from nbp_core.packed.kernels.team import gather_team, is_gathered, the_team
from nbp_core.packed.linear import CompiledLinear, matrix_weights
from nbp_core.transformer.attention import KVCache, Rotation
from nbp_core.transformer.layer import Layer, SwiGLU

KEPT_PLANS = 8
"""Number of step sizes whose plans are kept; a generation has one or two."""


def fits(width: int, num_heads: int) -> bool:
    """Whether the kernels support this width and head width."""
    return width % jobs.PIECE == 0 and width // num_heads in HEAD_WIDTHS


class CompiledSteps:
    """Runs decode steps and prefills of a packed model as lists of jobs.

    Each new position attends to all keys, or to all keys up to a limit. Calls may come from any
    thread; they run one after the other.
    """

    def __init__(self, layers: Sequence[Layer], norm_f: nn.Module, head: CompiledLinear) -> None:
        self._layers = layers
        self._norms = [(Norm(layer.norm_1), Norm(layer.norm_2)) for layer in layers]
        self._norm_f = Norm(norm_f)
        self._head = head.product
        self._num_weights = matrix_weights(nn.ModuleList(layers))
        self._plans: dict[tuple[int, int, int, bool], Plan] = {}
        self._turn = threading.Lock()
        gather_team()

    @property
    def is_ready(self) -> bool:
        """Whether the kernels are compiled."""
        return is_gathered()

    def wait(self) -> None:
        """Returns once the kernels are compiled."""
        the_team()

    def forget(self) -> None:
        """Frees all plans and their buffers; they are made again when needed."""
        with self._turn:
            self._plans.clear()

    def __call__(
        self,
        x_BLD: Tensor,
        cache: KVCache,
        rotations: Sequence[Rotation | None],
        reach_L: Tensor | None = None,
    ) -> Tensor:
        """Computes the final hidden states (B, L, D) from embeddings.

        Keys and values are written after the cache's last position; the caller advances its length.
        rotations: the rotary tables of the layers. reach_L: Mask.reach_L.
        """
        with self._turn:
            plan = self._plan(x_BLD)
            plan.run(x_BLD, cache, rotations, reach_L=reach_L)
            return plan.out_MD.view(x_BLD.shape).clone()

    def draw(
        self,
        x_BLD: Tensor,
        cache: KVCache,
        rotations: Sequence[Rotation | None],
        first: int,
        sampling: SamplingConfig,
        rngs: Sequence[torch.Generator],
        has_all_cores: bool = True,
    ) -> Tensor:
        """Computes a step and samples its tokens (samples, L), int64, with one rng per sample.

        With guidance there are twice as many sequences as samples; the second half is without the
        condition. `rotations` may cover more positions: the new ones start at index `first`.
        has_all_cores: whether no other thread decodes frames meanwhile. If one does, the step of a
        small model leaves a core to it. The tokens are the same either way.
        """
        with self._turn:
            plan = self._plan(x_BLD, len(rngs), has_all_cores)
            plan.prepare_drawing(sampling, rngs)
            plan.run(x_BLD, cache, rotations, first)
            return plan.tokens_R.view(len(rngs), -1).clone()

    def _plan(self, x_BLD: Tensor, num_samples: int = 0, has_all_cores: bool = True) -> Plan:
        """The plan of this step size. With num_samples 0 it ends with the hidden states."""
        batch, length, _ = x_BLD.shape
        num_weights = self._num_weights + (self._head.num_weights if num_samples else 0)
        key = batch, length, num_samples, is_alone(num_weights, batch * length, has_all_cores)
        if key not in self._plans:
            if len(self._plans) == KEPT_PLANS:
                self._plans.clear()
            layers, norms, norm_f = self._layers, self._norms, self._norm_f
            with torch.inference_mode(False):  # buffers that any mode may write to
                self._plans[key] = Plan(layers, norms, norm_f, self._head, *key)
        return self._plans[key]


class Norm:
    """The weights of a norm, and its job."""

    def __init__(self, norm: nn.Module) -> None:
        self._kind = jobs.LAYER_NORM if isinstance(norm, nn.LayerNorm) else jobs.RMS_NORM
        self._weight_D = cast(Tensor, norm.weight).detach().float().clone()
        self._bias_D = torch.zeros_like(self._weight_D)
        if isinstance(norm, nn.LayerNorm):
            self._bias_D += norm.bias.detach()

    def job(self, x_MD: Tensor, out_MD: Tensor) -> jobs.Jobs:
        """The job that normalises float32 rows and writes activations."""
        return jobs.new_job(
            self._kind,
            num_pieces=len(x_MD),
            input=x_MD.data_ptr(),
            output=out_MD.data_ptr(),
            row_size=x_MD.shape[1],
            output_size=out_MD.shape[1],
            weight=self._weight_D.data_ptr(),
            bias=self._bias_D.data_ptr(),
        )


def _product(module: nn.Module | None) -> Product:
    return cast(CompiledLinear, module).product


def _mlp_products(layer: Layer) -> tuple[Product, Product]:
    """The first and the last matrix product of an MLP."""
    if isinstance(layer.mlp, SwiGLU):
        return _product(layer.mlp.gate_up), _product(layer.mlp.down)
    mlp = cast(nn.Sequential, layer.mlp)
    return _product(mlp[0]), _product(mlp[-1])


class Plan:
    """The list of jobs for one step size (batch, length), and the buffers that the jobs share."""

    def __init__(
        self,
        layers: Sequence[Layer],
        norms: list[tuple[Norm, Norm]],
        norm_f: Norm,
        head: Product,
        batch: int,
        length: int,
        num_samples: int,
        is_alone: bool,
    ) -> None:
        """is_alone: whether one thread does all jobs."""
        self._length, self._num_rows = length, batch * length
        self._num_heads = layers[0].attention.num_heads
        width = _product(layers[0].attention.proj).num_inputs
        self._head_width = width // self._num_heads
        first, last = _mlp_products(layers[0])
        self._x_MD = torch.zeros(self._num_rows, width)
        # `_joint` holds query, key and value of a position one after the other.
        self._normed_MD, self._joint, self._seen_MD, self._mlp_in, self._hidden_MH, self.out_MD = (
            torch.zeros(self._num_rows, size, dtype=NUMBERS)
            for size in (width, 3 * width, width, first.output_size, last.input_size, width)
        )
        self._levels = Levels(self._num_rows, max(width, last.input_size))
        self._is_alone = is_alone
        todo: list[jobs.Jobs] = []
        for layer, (norm_1, norm_2) in zip(layers, norms, strict=True):
            todo += [norm_1.job(self._x_MD, self._normed_MD), *self._attention(layer)]
            todo += [norm_2.job(self._x_MD, self._normed_MD), *self._mlp(layer)]
        todo.append(norm_f.job(self._x_MD, self.out_MD))
        self._scratch_size = max(first.scratch_size, last.scratch_size)
        if num_samples:
            logits_MO = torch.zeros(self._num_rows, head.output_size, dtype=NUMBERS)
            is_guided = batch > num_samples
            self._drawing = Drawing(logits_MO[:, : head.num_outputs], is_guided)
            todo += [self._product(head, self.out_MD, logits_MO), self._drawing.jobs]
            self._scratch_size = max(self._scratch_size, self._drawing.scratch_size)
        self._jobs = np.concatenate(todo)
        # Every layer has equally many jobs, so that a slice is a view of all attention jobs.
        places = np.flatnonzero(self._jobs.view(jobs.JOB)["kind"] == jobs.ATTENTION)
        every = slice(places[0], places[-1] + 1, places[1] - places[0] if len(places) > 1 else 1)
        self._attend = self._jobs.view(jobs.ATTENTION_JOB)[every, 0]
        self._memory: tuple[object, ...] = ()
        self._rotations: Sequence[Rotation | None] = ()
        self._tables = np.zeros((len(layers), 2), np.int64)

    def _product(self, product: Product, x: Tensor, out: Tensor) -> jobs.Jobs:
        """A layer's jobs. Its output is added if it is the residual stream `_x_MD`."""
        return product.jobs(
            x,
            out,
            self._num_rows,
            self._levels,
            threads_for(self._is_alone),
            is_added=out is self._x_MD,
        )

    def _attention(self, layer: Layer) -> list[jobs.Jobs]:
        attend = jobs.new_job(
            jobs.ATTENTION,
            num_pieces=self._num_rows // self._length * self._num_heads,
            input=self._joint.data_ptr(),
            output=self._seen_MD.data_ptr(),
            num_rows=self._length,
            num_heads=self._num_heads,
            head_width=self._head_width,
        )
        return [
            self._product(_product(layer.attention.joint), self._normed_MD, self._joint),
            attend,
            self._product(_product(layer.attention.proj), self._seen_MD, self._x_MD),
        ]

    def _mlp(self, layer: Layer) -> list[jobs.Jobs]:
        first, last = _mlp_products(layer)
        is_gated = isinstance(layer.mlp, SwiGLU)
        return [
            self._product(first, self._normed_MD, self._mlp_in if is_gated else self._hidden_MH),
            *([self._gate(first, last)] if is_gated else []),
            self._product(last, self._hidden_MH, self._x_MD),
        ]

    def _gate(self, first: Product, last: Product) -> jobs.Jobs:
        return jobs.new_job(
            jobs.GATE,
            num_pieces=self._num_rows,
            input=self._mlp_in.data_ptr(),
            output=self._hidden_MH.data_ptr(),
            row_size=first.num_outputs,
            output_size=last.input_size,
        )

    @property
    def tokens_R(self) -> Tensor:
        """The sampled tokens."""
        return self._drawing.tokens_R

    def prepare_drawing(self, sampling: SamplingConfig, rngs: Sequence[torch.Generator]) -> None:
        """Sets seeds and settings of the next run's sampling."""
        self._drawing.prepare(self._jobs, sampling, rngs)

    def run(
        self,
        x_BLD: Tensor,
        cache: KVCache,
        rotations: Sequence[Rotation | None],
        first: int = 0,
        reach_L: Tensor | None = None,
    ) -> None:
        """Runs the step; hidden states go to `out_MD`. Not thread-safe.

        Raises ValueError if the cache has no room for the new positions or is of another model.
        """
        if cache.length + self._length > cache.keys.shape[3]:
            raise ValueError(
                f"The KV cache holds {cache.keys.shape[3]} positions; {cache.length} are filled,"
                f" and this step adds {self._length}."
            )
        keys, values = cache.keys, cache.values
        memory = keys.data_ptr(), values.data_ptr(), keys.shape, keys.stride()
        if memory != self._memory:
            self._write_addresses(cache)
            self._memory = memory
        self._x_MD.copy_(x_BLD.flatten(0, 1))
        if rotations is not self._rotations:
            self._write_tables(rotations)
        self._write_positions(cache.length, first, reach_L)
        scratch_size = max(attention_bytes(cache.length + self._length), self._scratch_size)
        the_team().do(self._jobs, scratch_size, self._is_alone)

    def _write_addresses(self, cache: KVCache) -> None:
        """Writes where the cache is, after a check that it has the shape that the jobs assume."""
        batch = self._num_rows // self._length
        wanted = (len(self._attend), batch, self._num_heads, self._head_width)
        *found, _, width = cache.keys.shape
        if (*found, width) != wanted or cache.keys.dtype != NUMBERS:
            raise ValueError(
                f"The KV cache has (layers, sequences, heads, head width) {(*found, width)} of"
                f" {cache.keys.dtype}; this step needs {wanted} of {NUMBERS}."
            )
        layer_stride, batch_stride, head_stride = (
            stride * NUMBERS.itemsize for stride in cache.keys.stride()[:3]
        )
        offsets = np.arange(len(self._attend)) * layer_stride
        self._attend["key"] = cache.keys.data_ptr() + offsets
        self._attend["value"] = cache.values.data_ptr() + offsets
        self._attend["batch_stride"], self._attend["head_stride"] = batch_stride, head_stride

    def _write_tables(self, rotations: Sequence[Rotation | None]) -> None:
        """Writes the addresses of the rotary tables to the jobs and keeps the tables alive."""
        self._rotations = rotations
        for index, rotation in enumerate(rotations):
            if rotation is not None:
                cos, job = rotation.cos, self._attend[index]
                self._tables[index] = cos.data_ptr(), rotation.sin.data_ptr()
                names = ("table_key_stride", "table_batch_stride", "table_head_stride")
                for name, size, stride in zip(names, cos.shape[:3], cos.stride()[:3], strict=True):
                    job[name] = NUMBERS.itemsize * stride if size > 1 else 0

    def _write_positions(self, num_past: int, first: int, reach_L: Tensor | None) -> None:
        """Writes where the new positions begin, in the cache and in the rotary tables."""
        skipped = first * NUMBERS.itemsize * self._head_width
        places = np.where(self._tables, self._tables + skipped, 0)
        self._attend["cosine"], self._attend["sine"] = places.T
        self._attend["num_past"] = num_past
        self._attend["reach"] = 0 if reach_L is None else reach_L.data_ptr()
