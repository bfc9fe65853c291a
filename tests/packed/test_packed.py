from pathlib import Path

import pytest
import torch
from torch import nn

from nbp_core import BlockTransformer, SamplingConfig, VideoPipeline
from nbp_core.bench.format_loss import format_loss
from nbp_core.blocks.sequences import sequence_layout
from nbp_core.packed.formats import WeightFormat, choose_format, compute_dtype, formats_on
from nbp_core.packed.linear import CompiledLinear, held_bytes, matrix_weights, pack_linear
from nbp_core.packed.model import pack
from nbp_core.processor import SETS, InstructionSet
from nbp_core.runtime import Runtime
from tests.support.models import CODES, build_transformer, save_pipeline, transformer_config

FORMATS: list[tuple[WeightFormat, float]] = [
    ("float32", 1e-6),
    ("float16", 1e-3),
    ("bfloat16", 1e-2),
    ("int8", 2e-2),
    ("int4", 2e-1),
]
SMALLER = [held for held in ("int8", "int4") if held in formats_on("cpu")]
needs_packing = pytest.mark.skipif(
    choose_format("cpu") == "float32", reason="PyTorch packs nothing for this processor"
)


@needs_packing
@pytest.mark.parametrize(("weights", "tolerance"), FORMATS)
@pytest.mark.parametrize("rows", [1, 16, 70])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_product_is_the_plain_one(
    weights: WeightFormat, tolerance: float, rows: int, bias: bool
) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(512, 600, bias=bias)
    packed = pack_linear(linear.weight.data, linear.bias.data if bias else None, weights)
    is_packed = weights in formats_on("cpu")
    assert isinstance(packed, CompiledLinear) == is_packed
    # Rows of very different size: each must keep its own precision.
    x = torch.randn(1, rows, 512) * torch.logspace(-2, 2, rows)[:, None]
    got = packed(x.bfloat16() if weights == "bfloat16" else x).float()
    expected = linear(x)
    size = expected.std(-1, keepdim=True) if bias is False else expected.abs().amax(-1, True)
    assert ((got - expected) / size).abs().max() < 5 * tolerance


@pytest.mark.parametrize("found", [*SETS, None])
def test_formats_are_those_that_gain(
    found: InstructionSet | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = Runtime(instructions=found, num_threads=1)
    for module in ("nbp_core.packed.formats", "nbp_core.device"):
        monkeypatch.setattr(f"{module}.runtime", lambda: chosen)
    is_fast = found is not None and found.has_bfloat16
    usual = "float32" if found is None else "bfloat16" if is_fast else "float16"
    assert choose_format("cpu") == usual
    assert compute_dtype(choose_format("cpu")) == (torch.bfloat16 if is_fast else torch.float32)
    for wanted in ("int8", "int4"):
        if found is not None and found.int8 is not None:
            assert choose_format("cpu", **{wanted: True}) == wanted
        else:
            with pytest.raises(ValueError, match=f"{wanted} weights would gain nothing on this"):
                choose_format("cpu", **{wanted: True})


@pytest.mark.parametrize("weights", SMALLER)
def test_a_row_does_not_depend_on_the_others(weights: WeightFormat) -> None:
    linear = nn.Linear(512, 600)
    packed = pack_linear(linear.weight.data, linear.bias.data, weights)
    x = torch.randn(16, 512)
    others = torch.cat([x[:1], 1000 * x[1:]])
    torch.testing.assert_close(packed(others)[0], packed(x)[0], rtol=1e-6, atol=1e-6)


def test_weights_stored_in_float16_lose_nothing() -> None:
    stored = torch.randn(600, 512).half()
    x = torch.randn(3, 512)
    packed = pack_linear(stored, None, choose_format("cpu"))
    if choose_format("cpu") != "bfloat16":
        torch.testing.assert_close(packed(x), x @ stored.float().T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weights", ["float32", "float16", "bfloat16", "int8", "int4"])
@pytest.mark.parametrize("kind", ["plain", "hybrid", "elastic"])
def test_a_packed_model_has_the_logits_of_the_plain_one(kind: str, weights: WeightFormat) -> None:
    if weights != "float32" and choose_format("cpu") == "float32":
        pytest.skip("PyTorch packs nothing for this processor")
    config = transformer_config(kind, grid=(5, 4, 16))  # type: ignore[arg-type]
    model = build_transformer(config)
    layout = sequence_layout(config)
    conditions = torch.full((2, config.prefix_len), config.first_condition_id)
    ids = layout.input_ids(torch.randint(0, CODES, (2, *config.grid)), conditions)
    expected, num_weights = model(ids), matrix_weights(model.layers)
    model = pack(model, weights)
    got = model(ids)
    assert matrix_weights(model.layers) == num_weights
    assert got.shape == expected.shape
    tolerance = {"float32": 1e-5, "float16": 2e-2, "int4": 0.4}.get(weights, 0.2)
    assert ((got.float() - expected).std() / expected.std()) < tolerance
    video = model.video_logits(model.features(ids, layout))
    assert torch.equal(got[..., config.first_video_id :], video)


def test_packing_halves_the_bytes() -> None:
    weight = torch.randn(1024, 1024)
    if choose_format("cpu") == "float32":
        pytest.skip("PyTorch packs nothing for this processor")
    assert held_bytes(pack_linear(weight, None, choose_format("cpu"))) == weight.nbytes // 2
    for held in SMALLER:
        bits = int(held.removeprefix("int"))
        assert held_bytes(pack_linear(weight, None, held)) == weight.numel() * bits // 8


@pytest.mark.parametrize("weights", SMALLER)
def test_smaller_weights_are_chosen_by_name_and_told(
    weights: WeightFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_pipeline(tmp_path)
    pipeline = VideoPipeline.from_pretrained(
        folder, "cpu", int8=weights == "int8", int4=weights == "int4"
    )
    sampling = SamplingConfig(block_shape=(1, 1, 16))
    first, again = (pipeline.generate("pan-left", sampling=sampling) for _ in range(2))
    assert first.manifest["weight_format"] == weights
    assert (first.tokens_thw == again.tokens_thw).all()
    usual = VideoPipeline.from_pretrained(folder, "cpu")
    assert usual.transformer.weight_format == choose_format("cpu")
    assert usual.num_parameters == pipeline.num_parameters


def test_smaller_weights_where_there_are_none_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="int8 weights would gain nothing on a GPU"):
        choose_format("cuda", int8=True)
    with pytest.raises(ValueError, match="int4 weights would gain nothing on a GPU"):
        choose_format("cuda", int4=True)
    with pytest.raises(ValueError, match="either int8 or int4"):
        choose_format("cpu", int8=True, int4=True)


@pytest.mark.parametrize("weights", SMALLER)
def test_the_loss_of_a_format_is_measured(
    weights: WeightFormat, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_pipeline(tmp_path)
    config = BlockTransformer.from_pretrained(folder).config
    found = format_loss(folder, torch.randint(0, CODES, (1, *config.grid)), weights)
    assert 0 < found.logit_error < 0.3
    assert found.loss == pytest.approx(found.plain_loss, abs=0.3)
    assert found.same_best > 0.5
