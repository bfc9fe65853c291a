import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nbp_core import BlockTransformer, SamplingConfig, VideoPipeline
from nbp_core.bench.format_loss import format_loss
from nbp_core.blocks.sequences import sequence_layout
from nbp_core.checkpoint import StoredWeights, save_model, without_weights
from nbp_core.config.presets import PAPER_PRESETS
from nbp_core.packed.formats import STORED, WeightFormat, choose_format, compute_dtype, formats_on
from nbp_core.packed.linear import CompiledLinear, held_bytes, matrix_weights, pack_linear
from nbp_core.packed.model import load_packed, pack
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


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("held", [choose_format("cpu"), *SMALLER])
@pytest.mark.parametrize("modern", [True, False])
def test_a_folder_is_packed_layer_by_layer(
    stored: torch.dtype,
    held: WeightFormat,
    modern: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = transformer_config(modern=modern)
    model = build_transformer(config)
    save_model(tmp_path, "transformer", config, model.state_dict(), dtype=stored)
    whole = pack(BlockTransformer.from_pretrained(tmp_path, dtype=STORED[held]), held)
    reads: list[str] = []
    read = StoredWeights.read

    def watched(self: StoredWeights, names: list[str], dtype: torch.dtype) -> dict[str, Tensor]:
        (name,) = names
        reads.append(name.split(".")[1] if name.startswith("layers.") else "rest")
        return read(self, names, dtype)

    monkeypatch.setattr(StoredWeights, "read", watched)
    loaded = load_packed(tmp_path, "cpu", held == "int8", held == "int4")
    assert list(dict.fromkeys(reads)) == [*map(str, range(config.num_layers)), "rest"]
    assert not [name for name, part in loaded.named_parameters() if part.is_meta]
    layout = sequence_layout(config)
    conditions = torch.full((1, config.prefix_len), config.first_condition_id)
    ids = layout.input_ids(torch.randint(0, CODES, (1, *config.grid)), conditions)
    assert torch.equal(loaded(ids), whole(ids))


PEAK = """
import sys
from pathlib import Path
from nbp_core.packed.model import decoding_bytes, load_packed

def kilobytes(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind))

before = kilobytes("VmRSS")
model = load_packed(sys.argv[1], "cpu", sys.argv[2] == "int8", sys.argv[2] == "int4")
print((kilobytes("VmHWM") - before) * 1024, decoding_bytes(model.config, model.weight_format))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="Linux tells the peak here")
@pytest.mark.parametrize("held", SMALLER)
def test_loading_needs_little_more_memory_than_the_packed_model(
    held: WeightFormat, tmp_path: Path
) -> None:
    config = replace(PAPER_PRESETS["XL"], num_layers=12)
    with without_weights():
        names = BlockTransformer(config).named_parameters()
        shapes = {name: part.shape for name, part in names}
    weights = {name: torch.full(shape, 0.01).bfloat16() for name, shape in shapes.items()}
    save_model(tmp_path, "transformer", config, weights, dtype=None)
    done = subprocess.run(
        [sys.executable, "-c", PEAK, tmp_path, held], capture_output=True, text=True, check=True
    )
    peak, packed = map(int, done.stdout.split())
    head_bytes = 2 * config.vocab_size * config.width
    assert peak < 1.3 * packed + 2 * head_bytes  # the largest matrix, as stored and being packed


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
