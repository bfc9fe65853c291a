"""Decode steps from ids to tokens in one go, where there are such: on a GPU as CUDA graphs
(captured.py), on a processor as lists of compiled jobs.

They are for the paper's sampling. Shapes: R sequences, n new positions.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor

from nbp_core.blocks.sequences import DecodeStep, SequenceLayout
from nbp_core.config.sampling import SamplingConfig
from nbp_core.device import one_thread
from nbp_core.sampling.cuda_graph import captured_steps
from nbp_core.transformer.attention import KVCache, Rotation
from nbp_core.transformer.model import BlockTransformer
from nbp_core.transformer.positions import PositionInputs

TURNED_AT_ONCE = 256
"""Positions; for those of a single step, calls take longer than work."""


class WholeSteps(Protocol):
    """Those of one generation whose new positions see all there is; the others, as the prefill,
    fill the same cache, call by call."""

    cache: KVCache
    inputs: PositionInputs

    def draw(
        self, model: BlockTransformer, ids_Rn: Tensor, step: DecodeStep, rng: torch.Generator
    ) -> Tensor:
        """Feeds a step's ids and returns the tokens it draws, int64, of each sample."""


def whole_steps(
    model: BlockTransformer,
    layout: SequenceLayout,
    sampling: SamplingConfig,
    num_rows: int,
    num_samples: int,
) -> AbstractContextManager[WholeSteps | None]:
    """Those of a generation of so many samples, in so many rows with guidance; None where all steps
    go call by call."""
    if sampling.method != "paper":
        return nullcontext()
    if model.tok_emb.weight.device.type == "cuda":
        return captured_steps(model, layout, sampling, num_rows, num_samples)
    if model.compiled_steps is None or not sampling.temperature:
        return nullcontext()
    return nullcontext(ListedSteps(model, layout, sampling, num_rows, num_samples))


class ListedSteps:
    """Steps whose new positions see all there is, each one list of compiled jobs."""

    def __init__(
        self,
        model: BlockTransformer,
        layout: SequenceLayout,
        sampling: SamplingConfig,
        num_rows: int,
        num_samples: int,
    ) -> None:
        self.cache = model.new_cache(num_rows, layout.length)
        self.inputs = model.position_inputs(layout)
        self._layout = layout
        self._sampling = sampling
        self._num_samples = num_samples
        self._turned = range(0)
        self._rotations: list[Rotation | None] = []

    def draw(
        self, model: BlockTransformer, ids_Rn: Tensor, step: DecodeStep, rng: torch.Generator
    ) -> Tensor:
        """As WholeSteps."""
        assert model.compiled_steps is not None
        if step.start not in self._turned or step.stop - 1 not in self._turned:
            self._turn(model, step)
        here = slice(step.start, step.stop)
        condition_Rn = self._layout.of_targets(self.cache.condition_Bt, here)
        x_RnD = model.embed(ids_Rn, self.inputs.added_LD[here], condition_Rn)
        first = step.start - self._turned.start
        tokens_Rn = model.compiled_steps.draw(
            x_RnD, self.cache, self._rotations, first, self._num_samples, self._sampling, rng
        )
        self.cache.length = step.stop
        return tokens_Rn

    def _turn(self, model: BlockTransformer, step: DecodeStep) -> None:
        """Works out how the positions of a step and of some after it are turned."""
        ahead = min(step.start + TURNED_AT_ONCE, self._layout.length)
        self._turned = range(step.start, max(step.stop, ahead))
        here = slice(step.start, self._turned.stop)
        condition_RL = self._layout.of_targets(self.cache.condition_Bt, here)
        with one_thread(is_wanted=True):
            told = model.by_layer(self.inputs.at(here), condition_RL)
        self._rotations = [inputs.rotation for inputs in told]
