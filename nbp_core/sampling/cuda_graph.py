"""Decode steps on a GPU as CUDA graphs: hundreds of launches a step become one.

A captured step reads and writes where it did when it was captured: so the cache, the inputs of all
positions and the step's own ids, noise and tokens stay in place from one generation to the next,
and which positions a step stands at is a number in the device's memory. Drawing is part of it.
Shapes: B samples, R rows (twice as many with guidance), n new positions, L positions, M keys.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from nbp_core.blocks.sequences import DecodeStep, SequenceLayout
from nbp_core.config.sampling import SamplingConfig
from nbp_core.sampling.filters import guide, sample_by_sorting
from nbp_core.transformer.attention import Mask, PlacedCache
from nbp_core.transformer.model import BlockTransformer

KEPT = 2
"""Layouts of a model whose graphs are kept: of those that a race runs."""
KEY_MULTIPLE = 64
"""Fused attention wants masks of whole lines of memory."""
WARM_UPS = 3
"""Untimed runs before a capture, in which libraries make what they keep."""

Work = Callable[[], object]


def cuda_graph(work: Work) -> Work:
    """The same work as one launch; as it is, with a warning, where it cannot be captured."""
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    try:
        # Other threads may go on using the device meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
    except RuntimeError as error:
        warnings.warn(f"decode steps are slower than they could be: {error}", stacklevel=2)
        return work
    return graph.replay


@contextmanager
def captured_steps(
    model: BlockTransformer,
    layout: SequenceLayout,
    sampling: SamplingConfig,
    num_rows: int,
    num_samples: int,
) -> Iterator[CapturedSteps]:
    """Those of one generation, which has them to itself.

    They are kept with the model: capturing takes as long as some dozen steps.
    """
    key = (layout, replace(sampling, seed=0), num_rows, num_samples)
    # Taken out meanwhile: two generations at once must not share a cache.
    steps = model.captured.pop(key, None)
    if steps is None:
        steps = CapturedSteps(model, layout, sampling, num_rows, num_samples)
    steps.begin()
    try:
        yield steps
    finally:
        while len(model.captured) >= KEPT:
            model.captured.pop(next(iter(model.captured)))
        model.captured[key] = steps


class CapturedSteps:
    """The steps of a layout whose new positions see all there is, captured once a size."""

    def __init__(
        self,
        model: BlockTransformer,
        layout: SequenceLayout,
        sampling: SamplingConfig,
        num_rows: int,
        num_samples: int,
        capture: Callable[[Work], Work] = cuda_graph,
    ) -> None:
        self.layout = layout
        self.sampling = sampling
        self.num_samples = num_samples
        self.cache = model.new_cache(num_rows, layout.length + -layout.length % KEY_MULTIPLE)
        # Masked keys weigh nothing, but nothing times what is no number is none.
        self.cache.keys.zero_()
        self.cache.values.zero_()
        self.inputs = model.position_inputs(layout)
        self.num_rows = num_rows
        like = torch.zeros(num_rows, dtype=torch.int64, device=self.cache.keys.device)
        self.condition_Rt: Tensor | None = None
        self.target_frame_L = layout.target_frame_L.to(like.device)
        self.start_1 = torch.zeros_like(like[:1])
        self.capture = capture
        self._steps: dict[int, _Step] = {}

    def begin(self) -> None:
        """Forgets the clip before: from now on the cache is empty."""
        self.cache.length = 0

    def draw(
        self, model: BlockTransformer, ids_Rn: Tensor, step: DecodeStep, rng: torch.Generator
    ) -> Tensor:
        """Feeds a step's ids and returns the tokens (B, n) it draws, int64."""
        size = ids_Rn.shape[1]
        if size not in self._steps:
            self._steps[size] = _Step(self, size)
        self.start_1.fill_(step.start)
        known_Rt = self.cache.condition_Bt
        if known_Rt is not None:
            if self.condition_Rt is None:
                self.condition_Rt = known_Rt.new_zeros(self.num_rows, self.layout.blocks.grid[0])
            self.condition_Rt.copy_(known_Rt.expand_as(self.condition_Rt))
        tokens = self._steps[size].run(model, ids_Rn, rng)
        self.cache.length = step.stop
        return tokens


class _Step:
    """A step of one size: what it reads and writes, and the work between."""

    def __init__(self, steps: CapturedSteps, size: int) -> None:
        like = steps.start_1
        self._shared = steps
        self._ids_Rn = like.new_zeros(steps.num_rows, size)
        self._noise_Bn1 = like.new_zeros(steps.num_samples, size, 1, dtype=torch.float32)
        self._tokens_Bn = like.new_zeros(steps.num_samples, size)
        self._work: Work | None = None

    def run(self, model: BlockTransformer, ids_Rn: Tensor, rng: torch.Generator) -> Tensor:
        """As CapturedSteps.draw."""
        self._ids_Rn.copy_(ids_Rn)
        if self._shared.sampling.temperature:
            self._noise_Bn1.uniform_(generator=rng)
        if self._work is None:
            # Only now: a capture's runs write into the cache, where this step will write anyway.
            self._work = self._shared.capture(lambda: self._make(model))
        self._work()
        return self._tokens_Bn.clone()

    def _make(self, model: BlockTransformer) -> None:
        """From ids and noise to tokens, without asking the device for a value."""
        shared, cache = self._shared, self._shared.cache
        size, room = self._ids_Rn.shape[1], cache.keys.shape[3]
        arange_M = torch.arange(room, device=cache.keys.device)
        positions_n = shared.start_1 + arange_M[:size]
        known_Rt = shared.condition_Rt
        seen_1M = arange_M[None] < shared.start_1 + size
        features = model.features_here(
            self._ids_Rn,
            shared.inputs.at(positions_n),
            None if known_Rt is None else known_Rt[:, shared.target_frame_L[positions_n]],
            Mask(seen_1M.expand(size, -1), [(0, size, room)]),
            PlacedCache(cache.keys, cache.values, positions_L=positions_n),
        )
        logits = model.video_logits(features)
        if len(self._ids_Rn) > shared.num_samples:
            given, without = logits.chunk(2)
            logits = guide(given, without, shared.sampling.guidance_scale)
        self._tokens_Bn.copy_(sample_by_sorting(logits, shared.sampling, self._noise_Bn1))
