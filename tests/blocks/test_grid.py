import pytest
import torch

from nbp_core.blocks.grid import BlockLayout
from nbp_core.blocks.sequences import SequenceLayout, sequence_layout
from nbp_core.config.shapes import FIGURE6_SHAPES, NO_TOKEN, TABLE3_SHAPES, Size3
from tests.support.models import transformer_config

GRID = (5, 16, 16)
SHAPES = sorted(set(FIGURE6_SHAPES + TABLE3_SHAPES))


def layout(kind: str, shape: Size3, prefix_len: int = 1) -> SequenceLayout:
    if kind == "plain":
        return SequenceLayout("plain", BlockLayout(GRID, shape), 0, 0)
    return SequenceLayout("hybrid", BlockLayout(GRID, shape), prefix_len, 300)


@pytest.mark.parametrize("shape", SHAPES)
def test_blocks_and_grid_are_inverse(shape: Size3) -> None:
    blocks = BlockLayout(GRID, shape)
    tokens = torch.randint(0, 1000, (2, *GRID))
    cut = blocks.to_blocks(tokens)
    assert cut.shape == (2, 1280 // blocks.block_len, blocks.block_len)
    assert torch.equal(blocks.to_grid(cut), tokens)


def test_a_row_block_is_a_row_of_tokens() -> None:
    tokens = torch.arange(1280).reshape(1, *GRID)
    assert BlockLayout(GRID, (1, 1, 16)).to_blocks(tokens)[0, 17].tolist() == list(range(272, 288))


def test_blocks_that_span_time_leave_the_first_latent_frame_to_itself() -> None:
    places = BlockLayout(GRID, (2, 1, 8)).places_NS
    assert places[:16].max() == 255
    frames = places[16:] // 256
    assert all(len(block.unique()) == 2 for block in frames)


def test_shapes_that_do_not_tile_are_refused_with_those_that_do() -> None:
    with pytest.raises(ValueError, match=r"1x3x16 does not tile the 5x16x16 grid.*1x1x16"):
        BlockLayout(GRID, (1, 3, 16))


@pytest.mark.parametrize(
    ("grid", "shape", "what"),
    [
        (GRID, (1, 16), "block shape"),
        (GRID, (1, 0, 16), "block shape"),
        (GRID, (1, -1, 16), "block shape"),
        (GRID, (1, 1, 8.0), "block shape"),
        (GRID, [1, 1, 16], "block shape"),
        ((0, 16, 16), (1, 1, 16), "grid"),
        ((5, 16), (1, 1, 16), "grid"),
    ],
)
def test_what_is_not_three_whole_numbers_is_refused(grid: Size3, shape: Size3, what: str) -> None:
    with pytest.raises(ValueError, match=f"^{what} must be three whole numbers of at least 1"):
        BlockLayout(grid, shape)


def test_a_clip_of_no_latent_frames_has_no_layout() -> None:
    with pytest.raises(ValueError, match="grid must be"):
        sequence_layout(transformer_config(), num_latent_frames=0)


@pytest.mark.parametrize(
    ("shape", "steps"),
    [
        ((1, 1, 1), 1280),
        ((1, 1, 8), 8 + 159),
        ((1, 1, 16), 95),
        ((1, 2, 16), 32 + 39),
        ((1, 4, 16), 64 + 19),
        ((1, 16, 16), 260),
    ],
)
def test_steps_from_a_condition(shape: Size3, steps: int) -> None:
    assert len(layout("hybrid", shape).decode_steps(0)) == steps


def test_steps_of_the_papers_protocols() -> None:
    # K600: 5 frames known = 512 tokens, 768 to make; UCF-101: 1,280 tokens from a class name.
    assert len(layout("plain", (1, 1, 16)).decode_steps(512)) == 48
    assert len(layout("plain", (1, 1, 1)).decode_steps(512)) == 768
    assert len(layout("hybrid", (1, 1, 16), prefix_len=8).decode_steps(0)) == 16 + 79
    assert layout("hybrid", (1, 1, 16), prefix_len=8).length == 1288


@pytest.mark.parametrize(("shape", "steps"), [((1, 1, 16), 64), ((1, 16, 16), 4), ((2, 2, 2), 128)])
def test_steps_from_a_first_frame(shape: Size3, steps: int) -> None:
    assert len(layout("hybrid", shape).decode_steps(256)) == steps


@pytest.mark.parametrize("kind", ["plain", "hybrid"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("known", [0, 256, 512, 768, 1024])
def test_steps_feed_every_position_once_and_sample_every_unknown_token_once(
    kind: str, shape: Size3, known: int
) -> None:
    lay = layout(kind, shape)
    if kind == "plain" and known == 0:
        with pytest.raises(ValueError, match="at least one known frame"):
            lay.decode_steps(0)
        return
    if shape[0] == 2 and known in (512, 1024):
        return  # refused: tested below
    steps = lay.decode_steps(known)
    assert [s.start for s in steps] == [0, *(s.stop for s in steps[:-1])]
    assert [s.first for s in steps] == [known, *(s.last for s in steps[:-1])]
    assert steps[-1].stop == lay.length
    assert steps[-1].last == 1280
    assert [s.phase for s in steps].count("prefill") == 1


@pytest.mark.parametrize("shape", SHAPES)
def test_each_position_predicts_its_counterpart_in_the_next_block(shape: Size3) -> None:
    lay = layout("hybrid", shape)
    size = lay.blocks.block_len
    predicts = lay.target_L != NO_TOKEN
    assert predicts.tolist() == [False] * lay.prefix_len + [True] * (lay.length - lay.prefix_len)
    blockwise = slice(lay.head_len, None)
    assert torch.equal(lay.target_L[blockwise], lay.source_L[blockwise] + size)
    one_by_one = slice(lay.prefix_len, lay.prefix_len + size)
    assert lay.target_L[one_by_one].tolist() == list(range(size))


def test_hybrid_ids_are_laid_out_as_documented() -> None:
    lay = layout("hybrid", (1, 1, 16), prefix_len=2)
    tokens = torch.arange(1280).reshape(1, *GRID)
    ids = lay.input_ids(tokens, torch.tensor([[290, 291]]))[0].tolist()
    assert ids[:3] == [290, 291, 0]
    assert ids[3:19] == [300 + i for i in range(16)]
    assert ids[19:34] == list(range(1, 16))
    assert ids[34:50] == [300 + i for i in range(16, 32)]


def test_middle_tokens_sit_at_the_place_they_stand_in_for() -> None:
    lay = layout("hybrid", (1, 1, 16))
    middle = slice(lay.head_len - 15, lay.head_len)
    assert lay.place_L[middle].tolist() == list(range(1, 16))
    assert lay.target_place_L[lay.head_len - 16 : lay.head_len].tolist() == list(range(16, 32))


def test_the_mask_is_that_of_the_paper() -> None:
    mask = layout("hybrid", (1, 1, 16), prefix_len=3).mask_LL
    conditions, one_by_one = slice(0, 3), slice(3, 19)  # BOV and the first 15 tokens
    first, second = slice(19, 35), slice(35, 51)  # {token 16, 15 middle tokens}, block 2
    assert mask[:, conditions].all()
    assert not mask[conditions, 3:].any()
    assert torch.equal(mask[one_by_one, one_by_one], torch.ones(16, 16).tril().bool())
    assert not mask[one_by_one, 19:].any()
    for block in (first, second):
        assert mask[block, : block.stop].all()
        assert not mask[block, block.stop :].any()


@pytest.mark.parametrize("kind", ["plain", "hybrid"])
def test_blocks_of_one_token_are_plain_next_token_prediction(kind: str) -> None:
    lay = layout(kind, (1, 1, 1))
    first = lay.prefix_len
    mask = lay.mask_LL[first:, first:]
    assert torch.equal(mask, torch.ones_like(mask).tril())
    assert lay.length == 1279 + (0 if kind == "plain" else 2)


def test_a_model_of_one_shape_refuses_others() -> None:
    with pytest.raises(ValueError, match="trained for block shape 1x1x16 only"):
        sequence_layout(transformer_config("hybrid"), (1, 1, 8))


@pytest.mark.parametrize("known", [100, 1280])
def test_contexts_off_a_block_boundary_or_too_long_are_refused(known: int) -> None:
    with pytest.raises(ValueError, match="context"):
        layout("hybrid", (1, 1, 16)).decode_steps(known)


@pytest.mark.parametrize("shape", [(2, 1, 8), (2, 2, 2)])
def test_a_context_ends_where_blocks_that_span_time_do(shape: Size3) -> None:
    lay = layout("hybrid", shape)
    for frames in (1, 3):
        assert lay.known_blocks(256 * frames) == 256 * frames // lay.blocks.block_len
    for frames in (2, 4):
        with pytest.raises(ValueError, match="does not end on a boundary of 2x"):
            lay.known_blocks(256 * frames)
