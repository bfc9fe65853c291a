import pytest
import torch

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.presets import PAPER_PRESETS
from nbp_core.config.shapes import FIGURE6_SHAPES, TABLE3_SHAPES, LayoutKind, Size3
from nbp_core.transformer.attention import Mask, masked_attention
from nbp_core.transformer.layer import RMSNorm
from nbp_core.transformer.model import BlockTransformer
from tests.support.models import CODES, build_transformer, transformer_config


@pytest.mark.parametrize(
    ("preset", "millions", "layers", "width", "heads"),
    [("XL", 884, 24, 1536, 16), ("XXL", 1481, 24, 2048, 32), ("3B", 4034, 32, 3072, 32)],
)
def test_paper_scale_presets(
    preset: str, millions: int, layers: int, width: int, heads: int
) -> None:
    config = PAPER_PRESETS[preset]
    assert (config.num_layers, config.width, config.num_heads) == (layers, width, heads)
    with torch.device("meta"):
        model = BlockTransformer(config)
    inner = 12 * layers * width**2
    tables = (2 * 64_000 + 5_120) * width
    total = sum(p.numel() for p in model.parameters())
    assert total == pytest.approx(inner + tables, rel=2e-3)
    assert round(total / 1e6) == millions


def conditions(model: BlockTransformer, batch: int) -> torch.Tensor | None:
    config = model.config
    if not config.prefix_len:
        return None
    drawn = torch.randint(0, config.num_conditions, (batch, config.prefix_len))
    return drawn + config.first_condition_id


@pytest.mark.parametrize("kind", ["plain", "hybrid", "elastic"])
@pytest.mark.parametrize("shape", [*FIGURE6_SHAPES, *TABLE3_SHAPES[:2]])
@pytest.mark.parametrize("known_frames", [0, 1, 3])
def test_cached_block_by_block_equals_one_masked_forward(
    kind: LayoutKind, shape: Size3, known_frames: int
) -> None:
    if kind == "plain" and known_frames == 0:
        return
    grid = (5, 16, 16) if shape[1] == 16 else (5, 4, 16)
    model = build_transformer(transformer_config(kind, shape, grid))
    layout = sequence_layout(model.config)
    tokens = torch.randint(0, CODES, (2, *grid))
    ids = layout.input_ids(tokens, conditions(model, 2))
    whole = model(ids)[..., model.config.first_video_id :]
    assert whole.std() > 0.1
    cache = model.new_cache(2, layout.length)
    for step in layout.decode_steps(known_frames * grid[1] * grid[2]):
        features = model.features(
            ids[:, step.start : step.stop], layout, start=step.start, cache=cache
        )
        count = step.last - step.first
        logits = model.video_logits(features[:, -count:])
        expected = whole[:, step.stop - count : step.stop]
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=0)
    assert cache.length == layout.length


@pytest.mark.parametrize("kind", ["plain", "hybrid", "elastic"])
def test_blocks_of_one_token_equal_a_plain_causal_transformer(kind: LayoutKind) -> None:
    model = build_transformer(transformer_config(kind, (1, 1, 1), (5, 4, 4)))
    config = model.config
    layout = sequence_layout(config)
    ids = layout.input_ids(torch.randint(0, CODES, (1, 5, 4, 4)), conditions(model, 1))
    causal = torch.ones(layout.length, layout.length).tril().bool()
    causal[: config.prefix_len, : config.prefix_len] = True
    torch.testing.assert_close(model(ids), model(ids, mask=causal), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["plain", "hybrid", "elastic"])
def test_later_blocks_never_reach_earlier_ones_and_a_block_sees_itself_both_ways(
    kind: LayoutKind,
) -> None:
    model = build_transformer(transformer_config(kind, (1, 1, 16), (5, 4, 16)))
    layout = sequence_layout(model.config)
    ids = layout.input_ids(torch.randint(0, CODES, (1, 5, 4, 16)), conditions(model, 1))
    start = layout.head_len + 2 * 16
    changed = ids.clone()
    changed[:, start + 15] = model.config.first_video_id + (
        (ids[:, start + 15] - model.config.first_video_id + 1) % CODES
    )
    before, after = model(ids), model(changed)
    assert torch.equal(before[:, :start], after[:, :start])
    assert (before[:, start] - after[:, start]).abs().max() > 1e-4


def test_logits_cover_the_whole_vocabulary() -> None:
    model = build_transformer(transformer_config())
    layout = sequence_layout(model.config)
    assert layout.length == 1 + 1280
    ids = layout.input_ids(torch.randint(0, CODES, (1, 5, 16, 16)), conditions(model, 1))
    assert model(ids).shape == (1, layout.length, 256 + 4 + CODES)


@pytest.mark.parametrize("size", [(1, 0), (0, 4), (4,), (1, 2000)])
def test_ids_that_are_no_sequence_are_refused_in_one_sentence(size: tuple[int, ...]) -> None:
    model = build_transformer(transformer_config())
    with pytest.raises(ValueError, match=r"^ids must be of shape \(B, L\), L from 1 to 1,281"):
        model(torch.zeros(size, dtype=torch.int64))


def test_a_mask_of_another_size_is_refused() -> None:
    model = build_transformer(transformer_config())
    with pytest.raises(ValueError, match=r"the mask of 4 ids must be of shape \(L, L\)"):
        model(torch.zeros(1, 4, dtype=torch.int64), torch.ones(5, 5, dtype=torch.bool))


def test_chunked_attention_equals_attention_with_the_whole_mask() -> None:
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 1, 2, 700, 8)
    mask = torch.ones(700, 700).tril().bool()
    chunked = masked_attention(query, key, value, Mask.of(mask))
    whole = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(chunked, whole, atol=1e-5, rtol=0)
    assert len(Mask.of(mask).spans) > 1


def test_attention_of_a_training_step_in_bfloat16_has_the_gradients_of_float32() -> None:
    """On a processor it has a backward pass of its own."""
    torch.manual_seed(0)
    blocks = torch.arange(601) // 16  # a chunk of queries ends within a block
    mask = Mask.of(blocks[:, None] >= blocks)
    inputs = [torch.randn(2, 3, 601, 16, requires_grad=True) for _ in range(3)]
    weights = torch.randn(2, 3, 601, 16)

    def outcome(in_bfloat16: bool) -> list[torch.Tensor]:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=in_bfloat16):
            query, key, value = inputs
            output = masked_attention(query, key, value, mask)
        assert output.dtype == (torch.bfloat16 if in_bfloat16 else torch.float32)
        return [output, *torch.autograd.grad((output * weights).sum(), inputs)]

    for got, expected in zip(outcome(True), outcome(False), strict=True):
        assert (got - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("num_queries", [1, 2, 16])
def test_attention_in_bfloat16_is_that_in_float32(num_queries: int) -> None:
    query = torch.randn(2, 3, num_queries, 8).bfloat16()
    key, value = torch.randn(2, 2, 3, 70, 8).bfloat16()
    got = masked_attention(query, key, value, None)
    expected = masked_attention(query.float(), key.float(), value.float(), None)
    assert got.shape == expected.shape
    torch.testing.assert_close(got.float(), expected, atol=0.02, rtol=0.02)


def test_the_norm_of_decoding_is_that_of_training() -> None:
    torch.manual_seed(0)
    norm = RMSNorm(48, 1e-5)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(2, 3, 48) * torch.tensor([1e-3, 1, 1e3])[:, None]
    x[0, 0] = 0
    expected = torch.nn.functional.rms_norm(x, (48,), norm.weight, eps=1e-5)
    torch.testing.assert_close(norm(x), expected)
    with torch.inference_mode():
        torch.testing.assert_close(norm(x), expected)
