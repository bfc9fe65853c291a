"""Compiled products, steps and draws against PyTorch's."""

import hashlib
import math
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.blocks.steps import DecodeStep
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import LayoutKind, Size3
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.packed.formats import WeightFormat, compute_dtype, formats_on
from nbp_core.packed.linear import CompiledLinear, pack_linear
from nbp_core.packed.model import pack
from nbp_core.processor import sets_here
from nbp_core.runtime import Runtime, runtime
from nbp_core.sampling.decoder import Decoder, Decoding
from nbp_core.sampling.filters import filtered_probs
from nbp_core.sampling.steps import decoder_of
from tests.support.models import (
    ACTIONS,
    CODES,
    DECODINGS,
    build_tokenizer,
    build_transformer,
    decode_tokens,
    transformer_config,
)

IN_USE = runtime().instructions
if IN_USE is not None:
    from nbp_core.packed.calls import draw
    from nbp_core.packed.kernels.jobs import LEVELS, Jobs
    from nbp_core.packed.kernels.team import Team, the_team

pytestmark = pytest.mark.skipif(IN_USE is None, reason="nothing is compiled here")
needs_int8 = pytest.mark.skipif(
    "int8" not in formats_on("cpu"), reason="int8 gains nothing on this processor"
)
FORMAT: WeightFormat = formats_on("cpu")[0]
NUMBERS = compute_dtype(FORMAT)

OUTPUTS, INPUTS = 192, 128


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def compiled_linear(
    weight_OI: Tensor, bias_O: Tensor | None, weights: WeightFormat
) -> CompiledLinear:
    packed = pack_linear(weight_OI, bias_O, weights)
    assert isinstance(packed, CompiledLinear)
    return packed


@pytest.mark.parametrize("rows", [1, 3, 16, 17, 70])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gelu", [True, False])
def test_a_product_is_the_float32_one_rounded(rows: int, bias: bool, gelu: bool) -> None:
    weight, x = torch.randn(OUTPUTS, INPUTS).bfloat16(), torch.randn(2, rows, INPUTS).to(NUMBERS)
    bias_O = torch.randn(OUTPUTS).bfloat16() if bias else None
    packed = compiled_linear(weight, bias_O, FORMAT)
    packed.product.is_gelu_next = gelu
    with torch.inference_mode():
        got = packed(x)
        exact = F.linear(x.float(), weight.float(), None if bias_O is None else bias_O.float())
    expected = F.gelu(exact) if gelu else exact
    assert got.dtype == NUMBERS
    torch.testing.assert_close(got.float(), expected, rtol=2**-8, atol=2e-5)


@needs_int8
@pytest.mark.parametrize("rows", [1, 16, 40])
def test_an_int8_product_is_that_of_the_rounded_numbers(rows: int) -> None:
    weight, bias = torch.randn(OUTPUTS, INPUTS), torch.randn(OUTPUTS)
    # Rows of very different size: each must keep its own precision.
    x = (torch.randn(rows, INPUTS) * torch.logspace(-2, 2, rows)[:, None]).to(NUMBERS)
    with torch.inference_mode():
        got = compiled_linear(weight, bias, "int8")(x).float()
    scale_O, scale_M = (values.float().abs().amax(1) / 127 for values in (weight, x))
    levels_OI = (weight / scale_O[:, None]).round()
    levels_MI = (x.float() / scale_M[:, None]).round()
    expected = (levels_MI @ levels_OI.T) * scale_M[:, None] * scale_O + bias
    # A number halfway between two levels may go either way.
    size = expected.abs().amax(1, keepdim=True)
    assert ((got - expected).abs() / size).max() < 0.01
    assert (((got - expected).abs() / size) < 2**-8).float().mean() > 0.99


@needs_int8
@pytest.mark.parametrize("rows", [1, 16, 40])
def test_an_int4_product_is_that_of_levels(rows: int) -> None:
    levels = torch.tensor(LEVELS).float()
    # Of weights that are levels, none is lost; each output has its own scale.
    scale_O = torch.logspace(-3, 1, OUTPUTS)
    places_OI = torch.randint(0, len(LEVELS), (OUTPUTS, INPUTS))
    places_OI[:, 0] = len(LEVELS) - 1
    weight, x = levels[places_OI] * scale_O[:, None], torch.randn(rows, INPUTS).to(NUMBERS)
    with torch.inference_mode():
        got = compiled_linear(weight, None, "int4")(x).float()
    scale_M = x.float().abs().amax(1) / 127
    expected = ((x.float() / scale_M[:, None]).round() @ weight.T) * scale_M[:, None]
    # An activation halfway between two levels may go either way.
    torch.testing.assert_close(got / scale_O, expected / scale_O, rtol=2**-7, atol=5)


@needs_int8
def test_four_bits_lose_little_of_normal_weights() -> None:
    weight = torch.randn(256, 512) * torch.logspace(-3, 1, 256)[:, None]
    packed = compiled_linear(weight, None, "int4")
    with torch.inference_mode():
        held_IO = packed(torch.eye(512).to(NUMBERS)).float()
    lost_O = (held_IO.T - weight).square().mean(1) / weight.square().mean(1)
    assert lost_O.mean() < 0.0125
    assert lost_O.max() < 0.025


@pytest.mark.parametrize(
    ("kind", "block_shape", "head_width", "grid"),
    [
        ("plain", (1, 1, 16), 96, (5, 8, 16)),
        ("plain", (1, 1, 1), 128, (3, 3, 3)),
        ("elastic", (1, 1, 16), 64, (5, 8, 16)),
        ("elastic", (1, 2, 16), 32, (3, 4, 16)),
        ("elastic", (1, 1, 5), 64, (3, 4, 5)),
        ("elastic", (1, 4, 16), 64, (3, 4, 16)),
    ],
)
def test_steps_are_those_of_the_layers_rounded(
    kind: LayoutKind, block_shape: Size3, head_width: int, grid: Size3
) -> None:
    small = transformer_config(kind, block_shape, grid, modern=kind == "elastic")
    config = replace(small, width=384, num_heads=384 // head_width)
    exact = build_transformer(config)
    with torch.no_grad():
        for parameter in exact.parameters():
            parameter.copy_(parameter.bfloat16())
    packed = pack(deepcopy(exact), FORMAT)
    layout = sequence_layout(config)
    conditions = torch.tensor([[config.first_condition_id], [config.first_condition_id + 1]])
    known = config.prefix_len + 1 + math.prod(block_shape)
    ids = layout.input_ids(
        torch.randint(0, CODES, (2, *grid)), conditions.expand(2, config.prefix_len)
    )
    with torch.inference_mode():
        expected = exact.features(ids, layout)
        cache = packed.new_cache(2, layout.length + 3)
        cache.keys.fill_(torch.nan)
        cache.values.fill_(torch.nan)
        got = [
            packed.features(ids[:, step.start : step.stop], layout, start=step.start, cache=cache)
            for step in layout.decode_steps(0 if kind == "elastic" else math.prod(grid[1:]))
        ]
    assert torch.cat(got, 1).dtype == NUMBERS
    difference = torch.cat(got, 1).float() - expected
    tolerance = 0.03 if FORMAT == "bfloat16" else 1e-3
    assert difference[:, known:].std() / expected.std() < tolerance
    with torch.inference_mode():
        at_once = packed.features(ids, layout, cache=packed.new_cache(2, layout.length))
    assert (at_once.float() - expected).std() / expected.std() < tolerance


@pytest.mark.parametrize("room", ["positions", "sequences", "layers"])
def test_a_step_writes_nothing_to_a_cache_without_room(room: str) -> None:
    config = replace(transformer_config(block_shape=(1, 1, 16), grid=(3, 4, 16)), width=128)
    packed = pack(build_transformer(replace(config, num_heads=2)), FORMAT)
    assert packed.steps is not None
    layout = sequence_layout(config)
    ids = torch.full((2, 32), config.first_video_id)
    cache = packed.new_cache(1 if room == "sequences" else 2, layout.length)
    if room == "positions":
        cache.length = layout.length - 31
    if room == "layers":
        cache.keys, cache.values = cache.keys[:-1], cache.values[:-1]
    cache.keys.zero_()
    cache.values.zero_()
    here = packed.position_inputs(layout).at(slice(0, 32))
    with torch.inference_mode(), pytest.raises(ValueError, match="The KV cache h"):
        packed.features_here(ids, here, None, None, cache)
    assert not cache.keys.any()
    assert not cache.values.any()


@pytest.mark.parametrize("head_width", [32, 64, 96, 128])
def test_a_single_query_attends_as_many_do(head_width: int) -> None:
    """One position per step, at every length of the cache, and all positions in one step."""
    small = transformer_config("elastic", grid=(3, 4, 12), modern=True)
    config = replace(small, width=384, num_heads=384 // head_width)
    packed = pack(build_transformer(config), FORMAT)
    layout = sequence_layout(config, (1, 1, 1))
    tokens = torch.randint(0, CODES, (2, *config.grid))
    ids = layout.input_ids(tokens, torch.ones(2, config.prefix_len, dtype=torch.int64))
    cache = packed.new_cache(2, layout.length)
    for numbers in (cache.keys, cache.values):
        numbers.fill_(torch.nan)  # what is not yet written must not be read
    with torch.inference_mode():
        at_once = packed.features(ids, layout, cache=packed.new_cache(2, layout.length)).float()
        steps = [
            packed.features(ids[:, index : index + 1], layout, start=index, cache=cache)
            for index in range(ids.shape[1])
        ]
    difference = torch.cat(steps, 1).float() - at_once
    assert difference.std() / at_once.std() < (0.03 if FORMAT == "bfloat16" else 1e-4)
    assert difference.abs().max() / at_once.std() < (0.3 if FORMAT == "bfloat16" else 1e-3)


def test_callers_at_once_do_not_disturb_each_other() -> None:
    x = torch.randn(16, INPUTS).to(NUMBERS)
    layers = [compiled_linear(torch.randn(OUTPUTS, INPUTS), None, FORMAT) for _ in range(4)]
    alone = [layer(x) for layer in layers]

    def repeated(index: int) -> bool:
        return all(torch.equal(layers[index](x), alone[index]) for _ in range(200))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(repeated, range(4)))


@pytest.mark.parametrize("weights", formats_on("cpu"))
@pytest.mark.parametrize("kind", ["plain", "elastic"])
def test_a_packed_model_decodes_as_it_does_masked(kind: LayoutKind, weights: WeightFormat) -> None:
    small = transformer_config(kind, grid=(3, 4, 16), modern=kind == "elastic")
    config = replace(small, width=128, num_heads=2)
    model = build_transformer(config)
    layout = sequence_layout(config)
    conditions = torch.full((2, config.prefix_len), config.first_condition_id)
    ids = layout.input_ids(torch.randint(0, CODES, (2, *config.grid)), conditions)
    with torch.inference_mode():
        expected = model(ids)
        model = pack(model, weights)
        whole = model(ids)
        cache = model.new_cache(2, layout.length)
        parts = [
            model.features(ids[:, step.start : step.stop], layout, start=step.start, cache=cache)
            for step in layout.decode_steps(0 if kind == "elastic" else 64)
        ]
    cached = model.video_logits(torch.cat(parts, 1)).float()
    assert ((whole.float() - expected).std() / expected.std()) < (0.3 if weights == "int4" else 0.1)
    assert ((cached - whole.float()[..., config.first_video_id :]).std() / expected.std()) < 0.1


@pytest.mark.parametrize("guidance", [1.0, 1.7])
@pytest.mark.parametrize("weights", formats_on("cpu"))
@pytest.mark.parametrize(("kind", "shape", "known"), DECODINGS)
def test_steps_to_tokens_make_those_of_steps_call_by_call(
    kind: LayoutKind,
    shape: Size3,
    known: int,
    weights: WeightFormat,
    guidance: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind == "plain" and guidance != 1:
        pytest.skip("nothing to guide by")
    config = replace(transformer_config(kind, shape), width=128, num_heads=2)
    model = pack(build_transformer(config), weights)
    by_calls: list[str] = []
    draw = Decoding.draw

    def counted(
        decoding: Decoding, ids_Rn: Tensor, step: DecodeStep, *rest: Tensor | None
    ) -> Tensor:
        by_calls.append(step.phase)
        return draw(decoding, ids_Rn, step, *rest)

    monkeypatch.setattr(Decoding, "draw", counted)
    tokens = torch.randint(0, CODES, (2, 3, 16, 16))
    sampling = SamplingConfig(top_k=30, top_p=0.9, temperature=1.2, guidance_scale=guidance)
    # The second clip finds the plans of the first, with another action and other noise.
    clips = [
        decode_tokens(model, shape, replace(sampling, seed=seed), known, tokens, seed)
        for seed in (0, 1)
    ]
    assert (set(by_calls) == {"prefill"}) == isinstance(model.video_head, CompiledLinear)
    plain = Decoder(model)
    for seed, clip in enumerate(clips):
        seeded = replace(sampling, seed=seed)
        calls = decode_tokens(model, shape, seeded, known, tokens, seed, plain)
        assert torch.equal(clip, calls)
    assert not torch.equal(*clips)


@pytest.mark.parametrize("tiny_weights", [0, 2**40])
@pytest.mark.parametrize("shape", [(1, 1, 16), (1, 4, 16)])
def test_a_small_step_takes_all_cores_only_where_it_gains(
    shape: Size3, tiny_weights: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone: list[bool] = []
    do = Team.do

    def noted(team: Team, jobs: Jobs, scratch_size: int, is_alone: bool = False) -> None:
        alone.append(is_alone)
        do(team, jobs, scratch_size, is_alone)

    two = Runtime(instructions=IN_USE, num_threads=2)
    monkeypatch.setattr("nbp_core.packed.calls.runtime", lambda: two)
    monkeypatch.setattr("nbp_core.packed.calls.TINY_WEIGHTS", tiny_weights)
    monkeypatch.setattr(Team, "do", noted)
    config = replace(transformer_config("elastic", shape), width=128, num_heads=2)
    model = pack(build_transformer(config), FORMAT)
    tokens, sampling = torch.randint(0, CODES, (1, 3, 16, 16)), SamplingConfig()
    shared, own = (
        (decode_tokens(model, shape, sampling, 256, tokens, is_decoding=is_decoding), alone[-1])
        for is_decoding in (True, False)
    )
    assert shared[1] is True
    assert own[1] is (tiny_weights > 0 and shape == (1, 1, 16))
    assert torch.equal(shared[0], own[0])


def test_a_clip_leaves_a_core_to_the_tokenizer_only_while_it_decodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    num_held = 40  # more steps than a latent frame has
    alone: list[bool] = []
    may_decode = threading.Event()
    team = the_team()

    def noted(jobs: Jobs, scratch_size: int, is_alone: bool) -> None:
        alone.append(is_alone)
        if len(alone) == num_held:
            may_decode.set()
        team.do(jobs, scratch_size, is_alone)

    def held(*args: Any) -> Tensor:
        assert may_decode.wait(60)
        return decode(*args)

    two = Runtime(instructions=IN_USE, num_threads=2)
    monkeypatch.setattr("nbp_core.packed.calls.runtime", lambda: two)
    monkeypatch.setattr("nbp_core.packed.calls.TINY_WEIGHTS", 0)
    config = replace(transformer_config(), width=128, num_heads=2)
    pipeline = VideoPipeline(pack(build_transformer(config), FORMAT), build_tokenizer())
    expected = pipeline.generate(ACTIONS[0])
    decode = pipeline.tokenizer.decode
    monkeypatch.setattr(pipeline.tokenizer, "decode", held)
    monkeypatch.setattr("nbp_core.packed.plan.the_team", lambda: SimpleNamespace(do=noted))
    made = pipeline.generate(ACTIONS[0])
    assert not any(alone[:15])
    assert alone[num_held - 1] is True
    assert np.array_equal(made.frames_THWC, expected.frames_THWC)


@pytest.mark.parametrize(
    ("top_k", "top_p", "temperature"),
    [(1000, 1.0, 1.0), (40, 1.0, 1.0), (1000, 0.8, 1.3), (30, 0.9, 0.7), (1, 0.5, 1.0)],
)
def test_draws_follow_the_filtered_distribution(
    top_k: int, top_p: float, temperature: float
) -> None:
    count, rng = 100_000, torch.Generator().manual_seed(0)
    config = SamplingConfig(top_k=top_k, top_p=top_p, temperature=temperature)
    logits = (2 * torch.randn(1000)).to(NUMBERS)
    tokens = draw(logits.expand(count, 1000), config, rng)
    expected = count * filtered_probs(logits, config)
    found = tokens.bincount(minlength=1000)
    assert not found[expected == 0].any()
    often = expected > 10
    surplus = ((found - expected).square() / expected)[often].sum()
    assert surplus < often.sum() + 5 * (2 * often.sum()).sqrt()


def test_drawing_goes_by_rows_wherever_they_lie() -> None:
    logits = torch.full((3, 700), -1e4).to(NUMBERS)
    logits[0, 5], logits[1, 255], logits[2, 699] = 0, 0, 0
    wide = torch.full((3, 900), 1e4).to(NUMBERS)
    wide[:, :700] = logits
    config = SamplingConfig(top_k=20, top_p=0.9)
    assert draw(wide[:, :700], config, torch.Generator()).tolist() == [5, 255, 699]


def test_the_same_seed_draws_the_same() -> None:
    logits, config = torch.randn(16, 5000).to(NUMBERS), SamplingConfig(top_k=2000, top_p=0.9)
    first, again, other = (
        draw(logits, config, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def print_what_is_computed(weights: WeightFormat = FORMAT) -> None:
    """Hidden states of both kinds of layer, and tokens, in full."""
    torch.manual_seed(0)
    digest = hashlib.sha256()
    kinds: tuple[LayoutKind, ...] = ("plain", "elastic")
    for kind in kinds:
        config = transformer_config(kind, modern=kind == "elastic")
        model = pack(build_transformer(replace(config, width=384, num_heads=6)), weights)
        layout = sequence_layout(model.config, (1, 1, 16))
        tokens = torch.randint(0, CODES, (1, *config.grid))
        ids = layout.input_ids(tokens, torch.ones(1, config.prefix_len, dtype=torch.int64))
        with torch.inference_mode():
            features = model.features(ids, layout, cache=model.new_cache(1, layout.length))
            cache = model.new_cache(1, layout.length)
            one_by_one = [
                model.features(ids[:, index : index + 1], layout, start=index, cache=cache)
                for index in range(ids.shape[1])
            ]
        for found in (features, *one_by_one):
            digest.update(found.float().numpy().tobytes())
    sampling = SamplingConfig(top_k=3000, top_p=0.9)
    drawn = draw(torch.randn(64, 5000).to(NUMBERS), sampling, torch.Generator().manual_seed(0))
    digest.update(drawn.numpy().tobytes())
    print(digest.hexdigest())


def computed_apart(what: str, instructions: str | None = None, **variables: str) -> str:
    """What a process of its own prints, with no better instructions than those that are named."""
    limit = f"from nbp_core.runtime import start; start({instructions!r}); "
    program = limit + "from tests.packed import test_compiled as t; " + what
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        check=True,
        timeout=240,
        text=True,
    ).stdout


def test_what_was_compiled_before_computes_the_same(tmp_path: Path) -> None:
    """numba links what it compiles anew otherwise than what it kept: both round alike."""
    digests = [
        computed_apart("t.print_what_is_computed()", NUMBA_CACHE_DIR=str(tmp_path))
        for _ in range(2)
    ]
    assert list(tmp_path.rglob("*.nbc"))
    assert digests[0] == digests[1]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_sets_of_instructions_compute_the_same(tmp_path: Path) -> None:
    """Whatever multiplies them, sums of whole numbers are exact, and those of float32 are in one
    order."""
    names = [found.name for found in sets_here() if not found.has_bfloat16]
    what = "[t.print_what_is_computed(held) for held in ('float16', 'int8', 'int4')]"
    printed = {
        name: computed_apart(what, name, NUMBA_CACHE_DIR=str(tmp_path / name)) for name in names
    }
    assert len(names) < 2 or len(set(printed.values())) == 1, printed


def test_a_packed_model_says_when_it_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nbp_core.packed.kernels.team._teams", [])
    gate = threading.Event()
    monkeypatch.setattr("nbp_core.packed.kernels.team.take_part", lambda *args: gate.wait(60))
    model = pack(build_transformer(replace(transformer_config(), width=128)), FORMAT)
    decoder = decoder_of(model)
    assert not decoder.is_ready
    gate.set()
    decoder.wait_until_ready()
    assert decoder.is_ready
