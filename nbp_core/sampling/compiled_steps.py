"""Decode steps of a packed model on a CPU: each is one list of compiled jobs, sampling included.

Shapes: R sequences (twice the samples with guidance), n new positions, D width.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from torch import Tensor

from nbp_core.blocks.steps import DecodeStep
from nbp_core.packed.model import PackedTransformer
from nbp_core.packed.plan import CompiledSteps
from nbp_core.sampling.decoder import Decoder, Decoding, Setup
from nbp_core.transformer.attention import Rotation

TURNED_AT_ONCE = 256
"""Number of positions whose rotary tables are computed at once. For the positions of a single step,
PyTorch's calls would take longer than the computation."""


class CompiledDecoder(Decoder):
    """Runs a step as a list of jobs if its positions attend to all earlier ones, else as plain
    calls of PyTorch."""

    def __init__(self, model: PackedTransformer, steps: CompiledSteps) -> None:
        super().__init__(model)
        self._packed = model
        self._steps = steps

    @property
    def is_ready(self) -> bool:
        return self._steps.is_ready

    def wait_until_ready(self) -> None:
        self._steps.wait()

    def decoding(self, setup: Setup) -> AbstractContextManager[Decoding]:
        if setup.sampling.method != "paper":
            return super().decoding(setup)  # lists of jobs sample as the paper does
        return nullcontext(_CompiledDecoding(self._packed, self._steps, setup))

    def close(self) -> None:
        self._steps.forget()


class _CompiledDecoding(Decoding):
    def __init__(self, model: PackedTransformer, steps: CompiledSteps, setup: Setup) -> None:
        super().__init__(model, setup)
        self._packed = model
        self._steps = steps
        self._turned = range(0)
        self._rotations: list[Rotation | None] = []

    def draw(self, ids_Rn: Tensor, step: DecodeStep, conditions_Rt: Tensor | None = None) -> Tensor:
        layout = self.layout
        if step.phase == "prefill" or not layout.sees_all(step.start, step.stop):
            return super().draw(ids_Rn, step, conditions_Rt)
        if step.start not in self._turned or step.stop - 1 not in self._turned:
            self._turn(step)
        here = slice(step.start, step.stop)
        condition_Rn = layout.of_targets(self.cache.condition_Bt, here)
        x_RnD = self._packed.embed(ids_Rn, self.inputs.added_LD[here], condition_Rn)
        first = step.start - self._turned.start
        tokens_Rn = self._steps.draw(
            x_RnD,
            self.cache,
            self._rotations,
            first,
            self.setup.sampling,
            self.setup.rngs,
            not self.setup.is_decoding(),
        )
        self.cache.length = step.stop
        return tokens_Rn

    def _turn(self, step: DecodeStep) -> None:
        """Computes the rotary tables of this step's positions and of some later ones."""
        layout = self.layout
        ahead = min(step.start + TURNED_AT_ONCE, layout.length)
        self._turned = range(step.start, max(step.stop, ahead))
        here = slice(step.start, self._turned.stop)
        condition_RL = layout.of_targets(self.cache.condition_Bt, here)
        by_layer = self._packed.by_layer(self.inputs.at(here), condition_RL)
        self._rotations = [inputs.rotation for inputs in by_layer]
