"""Decode steps on a GPU as CUDA graphs: one launch per step instead of hundreds.

A captured step always reads and writes the same memory. The KV cache, the inputs of all positions
and the step's ids, noise and tokens therefore stay in place between generations, and the index of
the step's first position is a number in device memory. Sampling is part of the graph.
Shapes: B samples, R rows (twice as many with guidance), n new positions, L positions, M keys.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nbp_core.blocks.steps import DecodeStep
from nbp_core.config.sampling import SamplingConfig
from nbp_core.sampling.decoder import Decoder, Decoding, Setup
from nbp_core.sampling.filters import guided, sample_by_sorting
from nbp_core.transformer.attention import KVCache, Mask, PlacedCache
from nbp_core.transformer.model import BlockTransformer
from nbp_core.transformer.positions import PositionInputs

KEPT = 2
"""Number of layouts whose graphs are kept: a race runs two."""
KEY_MULTIPLE = 64
"""Fused attention requires mask rows aligned to this many elements."""
WARM_UPS = 3
"""Warm-up runs before a capture, in which libraries allocate their workspaces."""

Work = Callable[[], object]
Capture = Callable[[Work], Work]


def cuda_graph(work: Work) -> Work:
    """Captures `work` as a CUDA graph; returns a function that replays it.

    If the capture fails, it warns and returns `work` itself.
    """
    beside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    beside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(beside):
        for _ in range(WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(beside)
    graph = torch.cuda.CUDAGraph()
    before = torch.cuda.current_stream()
    try:
        # Other threads may use the device meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            work()
    except RuntimeError as error:
        warnings.warn(f"decode steps run without a CUDA graph, and slower: {error}", stacklevel=2)
        return work
    finally:
        # An invalidated capture raises before it leaves its own stream.
        torch.cuda.set_stream(before)
    return graph.replay


class GraphDecoder(Decoder):
    """Replays a step's graph if its positions attend to all earlier ones, else makes plain calls of
    PyTorch."""

    def __init__(self, model: BlockTransformer, capture: Capture = cuda_graph) -> None:
        super().__init__(model)
        self._capture = capture
        self._kept: dict[Hashable, CapturedSteps] = {}

    @contextmanager
    def decoding(self, setup: Setup) -> Iterator[Decoding]:
        """See Decoder.decoding. Graphs are kept afterwards: a capture takes as long as dozens of
        steps."""
        if setup.sampling.method != "paper":
            yield Decoding(self.model, setup)
            return
        sampling = replace(setup.sampling, seed=0)
        key = (setup.layout, sampling, setup.num_rows, setup.num_samples)
        # Removed during the generation, since two generations at once must not share a cache.
        steps = self._kept.pop(key, None)
        if steps is None:
            steps = CapturedSteps(self.model, _Memory.of(self.model, setup), self._capture)
        steps.memory.cache.length = 0
        # Not kept after an error: the content of the memory and the graphs is then unknown.
        try:
            yield _GraphDecoding(self.model, setup, steps)
        except GeneratorExit:  # the run was left before its end
            self._keep(key, steps)
            raise
        self._keep(key, steps)

    def _keep(self, key: Hashable, steps: CapturedSteps) -> None:
        while len(self._kept) >= KEPT:
            self._kept.pop(next(iter(self._kept)))
        self._kept[key] = steps

    def close(self) -> None:
        self._kept.clear()


class _GraphDecoding(Decoding):
    def __init__(self, model: BlockTransformer, setup: Setup, steps: CapturedSteps) -> None:
        super().__init__(model, setup, steps.memory.cache, steps.memory.inputs)
        self._captured = steps

    def draw(self, ids_Rn: Tensor, step: DecodeStep, conditions_Rt: Tensor | None = None) -> Tensor:
        if step.phase == "prefill" or not self.layout.sees_all(step.start, step.stop):
            return super().draw(ids_Rn, step, conditions_Rt)
        tokens = self._captured.draw(ids_Rn, step, self.setup.rngs)
        self.cache.length = step.stop
        return tokens


@dataclass(frozen=True)
class _Memory:
    """Device memory that the captured steps of a layout share; it stays in place between clips."""

    cache: KVCache
    inputs: PositionInputs
    condition_Rt: Tensor | None
    """Condition index of the latent frames of each sequence, if steps depend on it."""
    target_frame_L: Tensor
    start_1: Tensor
    """The first new position of the step."""
    num_rows: int
    sampling: SamplingConfig
    num_samples: int

    @classmethod
    def of(cls, model: BlockTransformer, setup: Setup) -> _Memory:
        layout = setup.layout
        cache = model.new_cache(setup.num_rows, layout.length + -layout.length % KEY_MULTIPLE)
        # A masked key has weight 0, but 0 * NaN is NaN: no value may be uninitialised.
        cache.keys.zero_()
        cache.values.zero_()
        start_1 = torch.zeros(1, dtype=torch.int64, device=cache.keys.device)
        is_conditioned = model.config.aimed or model.config.frame_conditions
        room_Rt = start_1.new_zeros(setup.num_rows, layout.blocks.grid[0])
        return cls(
            cache=cache,
            inputs=model.position_inputs(layout),
            condition_Rt=room_Rt if is_conditioned else None,
            target_frame_L=layout.target_frame_L.to(start_1.device),
            start_1=start_1,
            num_rows=setup.num_rows,
            sampling=setup.sampling,
            num_samples=setup.num_samples,
        )


class CapturedSteps:
    """Steps of a layout whose new positions attend to all before them, one graph per size."""

    def __init__(self, model: BlockTransformer, memory: _Memory, capture: Capture) -> None:
        self.memory = memory
        self._model = model
        self._capture = capture
        self._steps: dict[int, _Step] = {}

    def draw(self, ids_Rn: Tensor, step: DecodeStep, rngs: Sequence[torch.Generator]) -> Tensor:
        """Feeds the ids of a step and returns its new tokens (B, n), int64."""
        model, memory, size = self._model, self.memory, ids_Rn.shape[1]
        memory.start_1.fill_(step.start)
        known_Rt = memory.cache.condition_Bt
        if memory.condition_Rt is not None and known_Rt is not None:
            memory.condition_Rt.copy_(known_Rt.expand_as(memory.condition_Rt))
        if size not in self._steps:
            self._steps[size] = _Step.of(memory, size)
        held = self._steps[size]
        held.ids_Rn.copy_(ids_Rn)
        if memory.sampling.temperature:
            for rng, noise_n1 in zip(rngs, held.noise_Bn1, strict=True):
                noise_n1.uniform_(generator=rng)
        if held.work is None:
            # Captured only now: warm-up runs write to the cache where this step writes.
            # The captured work refers to the step's memory, not to the step.
            place = memory, held.ids_Rn, held.noise_Bn1, held.tokens_Bn
            held.work = self._capture(lambda: _make(model, *place))
        held.work()
        return held.tokens_Bn.clone()


@dataclass
class _Step:
    """A step of one size: its inputs, its outputs and the work between them."""

    ids_Rn: Tensor
    noise_Bn1: Tensor
    tokens_Bn: Tensor
    work: Work | None = None

    @classmethod
    def of(cls, memory: _Memory, size: int) -> _Step:
        like, num_samples = memory.start_1, memory.num_samples
        return cls(
            ids_Rn=like.new_zeros(memory.num_rows, size),
            noise_Bn1=like.new_zeros(num_samples, size, 1, dtype=torch.float32),
            tokens_Bn=like.new_zeros(num_samples, size),
        )


def _make(
    model: BlockTransformer, memory: _Memory, ids_Rn: Tensor, noise_Bn1: Tensor, tokens_Bn: Tensor
) -> None:
    """Computes tokens_Bn from ids_Rn and noise_Bn1, all in place and without synchronising."""
    cache = memory.cache
    size, room = ids_Rn.shape[1], cache.keys.shape[3]
    arange_M = torch.arange(room, device=cache.keys.device)
    positions_n = memory.start_1 + arange_M[:size]
    known_Rt = memory.condition_Rt
    seen_1M = arange_M[None] < memory.start_1 + size
    features = model.features_here(
        ids_Rn,
        memory.inputs.at(positions_n),
        None if known_Rt is None else known_Rt[:, memory.target_frame_L[positions_n]],
        Mask(seen_1M.expand(size, -1), [(0, size, room)]),
        PlacedCache(cache.keys, cache.values, positions_L=positions_n),
    )
    logits = guided(model.video_logits(features), memory.num_samples, memory.sampling)
    tokens_Bn.copy_(sample_by_sorting(logits, memory.sampling, noise_Bn1))
