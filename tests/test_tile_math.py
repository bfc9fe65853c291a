"""Products and attention in matrix tiles against PyTorch's, where the processor has tiles."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nbp_core.attention import masked_attention
from nbp_core.config import LayoutKind
from nbp_core.device import has_tiles
from nbp_core.packed import TileLinear, WeightFormat, pack_linear
from nbp_core.sequences import sequence_layout
from tests.small_models import CODES, build_transformer, transformer_config

pytestmark = pytest.mark.skipif(not has_tiles(), reason="this processor has no matrix tiles")

OUTPUTS, INPUTS = 192, 128


@pytest.fixture(autouse=True)
def _pack_all(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr("nbp_core.packed.MIN_WEIGHTS", 0)


def tile_linear(weight_OI: Tensor, bias_O: Tensor | None, weights: WeightFormat) -> TileLinear:
    packed = pack_linear(weight_OI, bias_O, weights)
    assert isinstance(packed, TileLinear)
    return packed


@pytest.mark.parametrize("rows", [1, 3, 16, 17, 70])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gelu", [True, False])
def test_a_product_is_the_float32_one_rounded(rows: int, bias: bool, gelu: bool) -> None:
    weight, x = torch.randn(OUTPUTS, INPUTS).bfloat16(), torch.randn(2, rows, INPUTS).bfloat16()
    bias_O = torch.randn(OUTPUTS).bfloat16() if bias else None
    packed = tile_linear(weight, bias_O, "bfloat16")
    packed.product.is_gelu_next = gelu
    with torch.inference_mode():
        got = packed(x)
        exact = F.linear(x.float(), weight.float(), None if bias_O is None else bias_O.float())
    expected = F.gelu(exact) if gelu else exact
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), expected, rtol=2**-8, atol=2e-5)


@pytest.mark.parametrize("rows", [1, 16, 40])
def test_an_int8_product_is_that_of_the_rounded_numbers(rows: int) -> None:
    weight, bias = torch.randn(OUTPUTS, INPUTS), torch.randn(OUTPUTS)
    # Rows of very different size: each must keep its own precision.
    x = (torch.randn(rows, INPUTS) * torch.logspace(-2, 2, rows)[:, None]).bfloat16()
    with torch.inference_mode():
        got = tile_linear(weight, bias, "int8")(x).float()
    scale_O, scale_M = (values.float().abs().amax(1) / 127 for values in (weight, x))
    levels_OI = (weight / scale_O[:, None]).round()
    levels_MI = (x.float() / scale_M[:, None]).round()
    expected = (levels_MI @ levels_OI.T) * scale_M[:, None] * scale_O + bias
    # A number halfway between two levels may go either way.
    size = expected.abs().amax(1, keepdim=True)
    assert ((got - expected).abs() / size).max() < 0.01
    assert (((got - expected).abs() / size) < 2**-8).float().mean() > 0.99


@pytest.mark.parametrize(
    ("batch", "heads", "queries", "keys", "width"),
    [(1, 16, 16, 300, 96), (2, 3, 1, 5, 64), (1, 2, 16, 64, 32), (2, 2, 32, 131, 128)],
)
def test_attention_is_the_float32_one_rounded(
    batch: int, heads: int, queries: int, keys: int, width: int
) -> None:
    # As in a decoding: queries beside keys and values in memory, a cache with room that is unset.
    query = torch.randn(batch, queries, 3, heads, width).bfloat16()[:, :, 0].transpose(1, 2)
    cache = torch.full((2, batch, heads, keys + 9, width), torch.nan).bfloat16()
    cache[..., :keys, :] = torch.randn(2, batch, heads, keys, width)
    key, value = cache[..., :keys, :]
    with torch.inference_mode():
        got = masked_attention(query, key, value, None)
    expected = F.scaled_dot_product_attention(query.float(), key.float(), value.float())
    assert got.shape == expected.shape
    torch.testing.assert_close(got.float(), expected, rtol=2**-6, atol=2**-7)


def test_callers_at_once_do_not_disturb_each_other() -> None:
    x = torch.randn(16, INPUTS).bfloat16()
    layers = [tile_linear(torch.randn(OUTPUTS, INPUTS), None, "bfloat16") for _ in range(4)]
    alone = [layer(x) for layer in layers]

    def repeated(index: int) -> bool:
        return all(torch.equal(layers[index](x), alone[index]) for _ in range(200))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(repeated, range(4)))


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
@pytest.mark.parametrize("kind", ["plain", "elastic"])
def test_a_model_decodes_in_tiles_as_it_does_masked(
    kind: LayoutKind, weights: WeightFormat
) -> None:
    small = transformer_config(kind, grid=(3, 4, 16), modern=kind == "elastic")
    config = replace(small, width=128, num_heads=2)
    model = build_transformer(config)
    layout = sequence_layout(config)
    conditions = torch.full((2, config.prefix_len), config.first_condition_id)
    ids = layout.input_ids(torch.randint(0, CODES, (2, *config.grid)), conditions)
    with torch.inference_mode():
        expected = model(ids)
        model.pack(weights)
        whole = model(ids)
        cache = model.new_cache(2, layout.length)
        parts = [
            model.features(ids[:, step.start : step.stop], layout, start=step.start, cache=cache)
            for step in layout.decode_steps(0 if kind == "elastic" else 64)
        ]
    cached = model.video_logits(torch.cat(parts, 1)).float()
    assert ((whole.float() - expected).std() / expected.std()) < 0.1
    assert ((cached - expected[..., config.first_video_id :]).std() / expected.std()) < 0.1
