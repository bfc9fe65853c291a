"""Steps as CUDA graphs hold them, played back on a processor: the same calls on the same memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import LayoutKind, Size3
from nbp_core.sampling.cuda_graph import GraphDecoder, Work
from nbp_core.sampling.decoder import Decoder
from nbp_core.sampling.sampler import Sampler
from nbp_core.transformer.model import BlockTransformer
from tests.support.models import (
    CODES,
    DECODINGS,
    build_transformer,
    decode_tokens,
    transformer_config,
)

ASKS = ("item", "_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "equal")
"""What waits for a device or hands it something from outside, which a graph cannot hold."""


class Tape(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records calls with their tensors; playing them back fills the same tensors again."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[tuple[Any, Any, Any, list[Tensor]]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in ASKS, f"{name} cannot be captured"
        if name == "index":
            masks = [index for index in args[1] if index is not None and index.dtype == torch.bool]
            assert not masks, "how much a mask selects is not known ahead"
        out = func(*args, **(kwargs or {}))
        outs = [value for value in tree_leaves(out) if isinstance(value, Tensor)]
        read = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
        places = {value.untyped_storage().data_ptr() for value in read}
        # A view needs no call: it shows what is in its memory now.
        if func._schema.is_mutable or any(
            value.untyped_storage().data_ptr() not in places for value in outs
        ):
            self.calls.append((func, args, kwargs or {}, outs))
        return out

    def play(self) -> None:
        for func, args, kwargs, outs in self.calls:
            again = tree_leaves(func(*args, **kwargs))
            for out, value in zip(outs, again, strict=True):
                if out is not value:
                    out.copy_(value)


def taped(work: Callable[[], object]) -> Callable[[], object]:
    """In the place of a CUDA graph."""
    tape = Tape()
    with tape:
        work()
    return tape.play


def decode(
    model: BlockTransformer,
    shape: Size3,
    sampling: SamplingConfig,
    known: int,
    captured: bool,
    tokens_Bthw: Tensor,
    action: int = 0,
    decoder: GraphDecoder | None = None,
) -> Tensor:
    """As decode_tokens."""
    chosen = (decoder or GraphDecoder(model, taped)) if captured else Decoder(model)
    return decode_tokens(model, shape, sampling, known, tokens_Bthw, action, chosen)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize(("kind", "shape", "known"), DECODINGS)
def test_played_back_steps_make_the_same_tokens(
    kind: LayoutKind, shape: Size3, known: int, guidance: float
) -> None:
    model = build_transformer(transformer_config(kind, shape))
    tokens = torch.randint(0, CODES, (2, 3, 16, 16))
    sampling = SamplingConfig(temperature=0, guidance_scale=guidance)
    if kind == "plain" and guidance != 1:
        pytest.skip("nothing to guide by")
    calls = decode(model, shape, sampling, known, captured=False, tokens_Bthw=tokens)
    played = decode(model, shape, sampling, known, captured=True, tokens_Bthw=tokens)
    assert calls.shape[1] == 768 - known
    assert torch.equal(calls, played)


def test_they_draw_from_the_noise_of_each_step() -> None:
    model = build_transformer(transformer_config())
    tokens = torch.randint(0, CODES, (2, 3, 16, 16))
    sampling = SamplingConfig(top_k=20, top_p=0.8)
    played = decode(model, (1, 1, 16), sampling, 256, captured=True, tokens_Bthw=tokens)
    again = decode(model, (1, 1, 16), sampling, 256, captured=True, tokens_Bthw=tokens)
    assert torch.equal(played, again)
    assert not torch.equal(played[0], played[1])


def test_the_action_is_that_of_the_generation() -> None:
    """An aimed model's steps depend on it beyond the keys and values of the prefill."""
    model = build_transformer(transformer_config())
    tokens = torch.randint(0, CODES, (2, 3, 16, 16))
    greedy = SamplingConfig(temperature=0)
    clips = [
        decode(model, (1, 1, 16), greedy, 256, captured, tokens, action)
        for action in (0, 1)
        for captured in (False, True)
    ]
    assert torch.equal(clips[0], clips[1])
    assert torch.equal(clips[2], clips[3])
    assert not torch.equal(clips[0], clips[2])


def test_a_tape_refuses_what_asks_the_device() -> None:
    numbers = torch.arange(4)
    for ask in (
        lambda: numbers[numbers > 1],
        lambda: int(numbers.sum()),
        numbers.nonzero,
    ):
        with pytest.raises(AssertionError):
            taped(ask)


def test_kept_steps_begin_a_second_clip_afresh() -> None:
    """What the clip before left in the cache is not seen."""
    model = build_transformer(transformer_config())
    captures: list[Work] = []

    def capture(work: Work) -> Work:
        captures.append(work)
        return taped(work)

    decoder, greedy = GraphDecoder(model, capture), SamplingConfig(temperature=0)
    clips = []
    for seed in (0, 1, 0):
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(0, CODES, (2, 3, 16, 16), generator=generator)
        clips.append(decode(model, (1, 1, 16), greedy, 256, True, tokens, decoder=decoder))
    assert torch.equal(clips[0], clips[2])
    assert not torch.equal(clips[0], clips[1])
    assert len(captures) == 1
    decoder.close()
    decode(model, (1, 1, 16), greedy, 256, True, tokens, decoder=decoder)
    assert len(captures) == 2


@pytest.mark.parametrize("fault", [RuntimeError, KeyboardInterrupt])
def test_steps_of_a_run_that_failed_are_not_used_again(fault: type[BaseException]) -> None:
    """A step that breaks off may leave anything in its memory, also NaN, which no mask hides."""
    model = build_transformer(transformer_config())
    tokens = torch.randint(0, CODES, (1, 3, 16, 16))
    is_broken, captures = False, 0

    def capture(work: Work) -> Work:
        nonlocal captures
        captures += 1

        def do() -> None:
            if is_broken:
                raise fault
            work()

        return do

    decoder, greedy = GraphDecoder(model, capture), SamplingConfig(temperature=0)
    first = decode(model, (1, 1, 16), greedy, 256, True, tokens, decoder=decoder)
    is_broken = True
    with pytest.raises(fault):
        decode(model, (1, 1, 16), greedy, 256, True, tokens, decoder=decoder)
    is_broken = False
    again = decode(model, (1, 1, 16), greedy, 256, True, tokens, decoder=decoder)
    assert torch.equal(first, again)
    assert captures == 2


def test_steps_of_a_run_that_is_left_early_are_kept() -> None:
    model = build_transformer(transformer_config())
    tokens = torch.randint(0, CODES, (1, 3, 16, 16))
    captures: list[Work] = []

    def capture(work: Work) -> Work:
        captures.append(work)
        return work

    decoder, greedy = GraphDecoder(model, capture), SamplingConfig(temperature=0)
    layout = sequence_layout(model.config, (1, 1, 16), 3)
    conditions = torch.full((1, 1), model.config.first_condition_id)
    for _ in range(2):
        stream = Sampler(decoder, layout, greedy, [torch.Generator()]).stream(
            tokens, 256, conditions
        )
        assert [step.phase for step in islice(stream, 3)] == ["prefill", "block", "block"]
        stream.close()
    assert len(captures) == 1
