"""Times decode steps and compares them with the hardware's floor.

The floor of a step is the larger of two times: bytes of weights and KV cache to read / measured
read bandwidth, and operations / measured matrix-product rate. Other programs change these rates
from minute to minute, so they are measured before and after a model's steps, and the better ones
count. Input: a model on its device.
Output: figures; cli/bench.py prints and writes them. Shapes: M new positions per step, L positions
attended to.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import cast

import torch
from torch import Tensor

from nbp_core.blocks.grid import BlockLayout
from nbp_core.blocks.sequences import SequenceLayout, sequence_layout
from nbp_core.blocks.steps import sequence_plan
from nbp_core.config.models import TransformerConfig
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import Size3, format_block_shape
from nbp_core.packed.formats import STORED, WeightFormat, compute_dtype, formats_on
from nbp_core.packed.linear import held_bytes, matrix_weights, pack_linear
from nbp_core.packed.model import PackedTransformer
from nbp_core.sampling.sampler import Sampler, synchronize
from nbp_core.sampling.steps import decoder_of

K600_KNOWN_FRAMES = 2
"""Known latent frames in the paper's K600 protocol: 512 known tokens, 768 to generate."""
KNOWN_FRAMES = {"k600": K600_KNOWN_FRAMES, "ucf": 0}
"""The protocols, and the known latent frames of each."""
READ_BYTES = 2**30
MATMUL_SIDE = 2048
REPEATS = 7
READ_STEP = 4
READ_SIZES = tuple(2**20 * READ_STEP**power for power in range(5))
"""Sizes in bytes of the packed layers whose read rate is measured; the largest exceed the cache."""
RATE_SIDE, RATE_ROWS = 1024, 256
"""Side and rows of the packed layers whose product rate is measured."""


@dataclass(frozen=True)
class Machine:
    """Measured rates of the hardware."""

    device: str
    name: str
    threads: int
    read_gb_s: float
    matmul_tflop_s: float
    dtype: str
    """The dtype of the matrix products: the one in which models run on this device."""
    int8_tflop_s: float = math.nan
    """The rate of 8-bit integer products, if models can use them here."""
    cached_gb_s: tuple[tuple[int, float], ...] = ()
    """(bytes read repeatedly, GB/s) pairs, since small models stay in the cache."""

    def best(self, other: Machine) -> Machine:
        """The better of each rate in two measurements of the same hardware."""
        pairs = zip(self.cached_gb_s, other.cached_gb_s, strict=True)
        return replace(
            self,
            read_gb_s=max(self.read_gb_s, other.read_gb_s),
            matmul_tflop_s=max(self.matmul_tflop_s, other.matmul_tflop_s),
            int8_tflop_s=max(self.int8_tflop_s, other.int8_tflop_s),
            cached_gb_s=tuple((size, max(rate, then)) for (size, rate), (_, then) in pairs),
        )


@dataclass(frozen=True)
class StepFigures:
    """Median times of one model at one block shape, without the tokenizer, in milliseconds."""

    model: str
    weights: str
    weight_format: str
    block: str
    protocol: str
    num_steps: int
    prefill_ms: float
    step_ms: float
    num_bytes: int
    """Bytes that a step reads."""
    num_operations: int
    """Multiplications and additions of a step."""
    timed_steps: int
    block_len: int

    @property
    def tokens_s(self) -> float:
        """Tokens per second while decoding."""
        return self.block_len / self.step_ms * 1e3

    @property
    def total_s(self) -> float:
        """Seconds of the whole protocol: its prefill and all its decode steps."""
        return (self.prefill_ms + (self.num_steps - 1) * self.step_ms) / 1e3


def best_seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Shortest time of `work` after one untimed call. Floors use it, as no step may be faster."""
    work()
    seconds = []
    for _ in range(repeats):
        synchronize(device)
        began = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def measure_machine(device: torch.device, dtype: torch.dtype, name: str) -> Machine:
    """Measures read rates of memory and caches, and the best rates of matrix products.

    The product rates are the better of PyTorch's and those of the packed layers.
    """
    block = torch.ones(READ_BYTES // 4, device=device)
    read_s = best_seconds(block.sum, device, REPEATS)
    del block
    left, right = (
        torch.randn(MATMUL_SIDE, MATMUL_SIDE, device=device, dtype=dtype) for _ in range(2)
    )
    operations = 2 * MATMUL_SIDE**3
    rate = operations / best_seconds(lambda: left @ right, device, REPEATS) / 1e12
    read, int8_rate, cached = READ_BYTES / read_s / 1e9, math.nan, []
    if device.type == "cpu":
        whole = torch.ones(MATMUL_SIDE, MATMUL_SIDE, dtype=torch.int8)
        int8_s = best_seconds(lambda: torch._int_mm(whole, whole), device, REPEATS)
        rates = {held: _product_rate(held) for held in formats_on("cpu")}
        rate = max(rate, rates[formats_on("cpu")[0]])
        int8_rate = max([operations / int8_s / 1e12, *list(rates.values())[1:]])
        *cached, (_, found) = [(size, _packed_read_rate(size)) for size in READ_SIZES]
        read = max(read, found)
    return Machine(
        device=device.type,
        name=name,
        threads=torch.get_num_threads(),
        read_gb_s=read,
        matmul_tflop_s=rate,
        dtype=str(dtype).removeprefix("torch."),
        int8_tflop_s=int8_rate,
        cached_gb_s=tuple(cached),
    )


@torch.inference_mode()
def _product_rate(held: WeightFormat) -> float:
    """TFLOP/s of a packed layer with many rows."""
    layer = pack_linear(torch.randn(RATE_SIDE, RATE_SIDE), None, held)
    x = torch.randn(RATE_ROWS, RATE_SIDE).to(compute_dtype(held))
    seconds = best_seconds(lambda: layer(x), torch.device("cpu"), 3 * REPEATS)
    return 2 * RATE_ROWS * RATE_SIDE**2 / seconds / 1e12


@torch.inference_mode()
def _packed_read_rate(num_bytes: int) -> float:
    """GB/s at which a packed layer of this size is read repeatedly, with one row."""
    held = formats_on("cpu")[0]
    num_outputs = num_bytes // (RATE_SIDE * STORED[held].itemsize)
    layer = pack_linear(torch.ones(num_outputs, RATE_SIDE), None, held)
    x = torch.randn(1, RATE_SIDE).to(compute_dtype(held))
    return num_bytes / best_seconds(lambda: layer(x), torch.device("cpu"), 3 * REPEATS) / 1e9


def step_bytes(model: PackedTransformer, num_seen: int) -> int:
    """Bytes that a decode step reads: all weights but the embedding tables, and the KV cache."""
    config = model.config
    item = cast(Tensor, model.norm_f.weight).element_size()
    cache = 2 * config.num_layers * config.width * num_seen * item
    return held_bytes(model.layers) + held_bytes(model.video_head) + cache


def step_operations(model: PackedTransformer, num_new: int, num_seen: int) -> int:
    """Number of multiplications and additions in a decode step."""
    config = model.config
    weights = matrix_weights(model.layers) + config.codebook_size * config.width
    attention = 2 * config.num_layers * config.width * num_seen
    return 2 * num_new * (weights + attention)


@dataclass(frozen=True)
class Floor:
    """The shortest possible time of a decode step on a machine."""

    floor_ms: float
    bound: str
    """What limits it: 'memory' or 'arithmetic'."""


def floor_of(step: StepFigures, machine: Machine) -> Floor:
    """The floor of a step at the rates of this machine."""
    # The rate of the largest measured size up to the model's, or of any larger size.
    rates = [rate for size, rate in machine.cached_gb_s if step.num_bytes < READ_STEP * size]
    memory_ms = step.num_bytes / (max([machine.read_gb_s, *rates]) * 1e6)
    is_whole = step.weight_format in ("int8", "int4")
    rate = machine.int8_tflop_s if is_whole else machine.matmul_tflop_s
    arithmetic_ms = step.num_operations / (rate * 1e9)
    if memory_ms >= arithmetic_ms:
        return Floor(memory_ms, "memory")
    return Floor(arithmetic_ms, "arithmetic")


def time_block_shape(
    model: PackedTransformer,
    shape: Size3,
    protocol: str,
    weights: str,
    max_steps: int = 32,
) -> StepFigures:
    """Times prefill and decode steps of one block shape in a protocol of KNOWN_FRAMES.

    The timed steps lie around the middle of the protocol, where the cache has its mean length, so
    that a few of them represent all.
    """
    layout = sequence_layout(model.config, shape)
    frame = layout.blocks.num_tokens // layout.blocks.grid[0]
    known = KNOWN_FRAMES[protocol] * frame
    # The first prefill includes one-time work of the process.
    _, prefill = (time_steps(model, layout, known, 1)[0] for _ in range(2))
    block_len, num_tokens = layout.blocks.block_len, layout.blocks.num_tokens
    count = min(max_steps, max(1, (num_tokens - known) // block_len - 1))
    start = _context_near(layout.blocks, (known + num_tokens) // 2 - (count + 1) * block_len // 2)
    seconds = time_steps(model, layout, start, count + 1)[1:]
    seen = layout.head_len + start + count * block_len // 2 - block_len
    return StepFigures(
        model=model.config.name,
        weights=weights,
        weight_format=model.weight_format,
        block=format_block_shape(shape),
        protocol=protocol,
        num_steps=len(layout.decode_steps(known)),
        prefill_ms=1e3 * prefill,
        step_ms=1e3 * statistics.median(seconds or [prefill]),
        num_bytes=step_bytes(model, seen),
        num_operations=step_operations(model, block_len, seen),
        timed_steps=len(seconds),
        block_len=block_len,
    )


def _context_near(blocks: BlockLayout, num_tokens: int) -> int:
    """Length of the longest context up to `num_tokens` that whole blocks fill, or of the shortest.

    Blocks of several rows or latent frames fill a context only together with those beside them.
    """
    numbers = range(1, blocks.num_blocks)
    lengths = [n * blocks.block_len for n in numbers if blocks.reach(n) == n * blocks.block_len]
    return max((length for length in lengths if length <= num_tokens), default=lengths[0])


def time_steps(
    model: PackedTransformer, layout: SequenceLayout, num_known: int, count: int
) -> list[float]:
    """Seconds of each of the first `count` steps after a known context, sampling included."""
    config, device = model.config, model.tok_emb.weight.device
    rng = torch.Generator(device).manual_seed(0)
    tokens = torch.randint(0, config.codebook_size, (1, *layout.blocks.grid)).to(device)
    conditions = torch.full((1, config.prefix_len), config.first_condition_id, device=device)
    sampler = Sampler(decoder_of(model), layout, SamplingConfig(), [rng])
    with closing(sampler.stream(tokens, num_known, conditions)) as stream:
        return [step.seconds for step in islice(stream, count)]


def fits(config: TransformerConfig, shape: Size3, known_frames: int) -> bool:
    """Whether a model makes clips in this block shape from this number of latent frames on."""
    try:
        plan = sequence_plan(config, shape)
        plan.known_blocks(known_frames * plan.blocks.num_tokens // plan.blocks.grid[0])
    except ValueError:
        return False
    return True
