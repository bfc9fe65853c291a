import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nbp_core.config.presets import TOKENIZER_PRESETS
from nbp_core.config.shapes import Size3
from nbp_core.tokenizer.conv import CausalConv3d, StreamState
from nbp_core.tokenizer.interface import to_clip, to_frames
from nbp_core.tokenizer.model import VideoTokenizer
from tests.support.models import build_tokenizer


def count(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_magvit2_64k_has_exactly_the_released_parameters() -> None:
    with torch.device("meta"):
        model = VideoTokenizer(TOKENIZER_PRESETS["magvit2-64k"])
    assert count(model) == 370_372_105
    assert model.config.codebook_size == 64_000


def test_frames_and_clip_are_inverse() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 3, 8, 12, 3), dtype=np.uint8)
    clip = to_clip(frames, "cpu")
    assert clip.shape == (2, 3, 3, 8, 12)
    assert 0 <= clip.min() < clip.max() <= 1
    assert np.array_equal(to_frames(clip), frames)


def test_nano_is_small() -> None:
    with torch.device("meta"):
        assert count(VideoTokenizer(TOKENIZER_PRESETS["nano"])) <= 5_000_000
    assert TOKENIZER_PRESETS["nano"].codebook_size <= 8192


@pytest.mark.parametrize("preset", ["magvit2-64k", "nano"])
def test_grid_of_the_papers_clip(preset: str) -> None:
    config = TOKENIZER_PRESETS[preset]
    assert config.grid(17, 128, 128) == (5, 16, 16)
    assert config.grid(1, 128, 128) == (1, 16, 16)
    assert [config.num_frames(t) for t in (1, 2, 5)] == [1, 5, 17]


@pytest.mark.parametrize("frames", [1, 5, 9])
def test_shapes_and_ranges(frames: int) -> None:
    tokenizer = build_tokenizer()
    clip = torch.rand(2, 3, frames, 32, 48)
    tokens = tokenizer.encode(clip)
    assert tokens.shape == (2, 1 + (frames - 1) // 4, 4, 6)
    assert tokens.dtype == torch.int64
    assert tokens.min() >= 0
    assert tokens.max() < tokenizer.config.codebook_size
    assert len(set(tokens.flatten().tolist())) > 3
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == clip.shape
    assert decoded.min() >= 0
    assert decoded.max() <= 1


@pytest.mark.parametrize("size", [(4, 32, 32), (17, 30, 32), (5, 32, 20)])
def test_clips_that_do_not_fit_are_refused(size: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=r"must (have|be)"):
        build_tokenizer().encode(torch.rand(1, 3, *size))


@pytest.mark.parametrize(
    ("clip", "sentence"),
    [
        (torch.zeros(0, 3, 1, 32, 32), "of shape"),
        (torch.zeros(3, 1, 32, 32), "of shape"),
        (torch.zeros(1, 1, 1, 32, 32), "of shape"),
        (torch.zeros(1, 3, 1, 32, 32, dtype=torch.uint8), "floats in"),
    ],
)
def test_what_is_no_clip_is_refused_in_one_sentence(clip: torch.Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=f"^clips must be {sentence}"):
        build_tokenizer().encode(clip)


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        (torch.zeros(0, 1, 4, 4, dtype=torch.int64), "of shape"),
        (torch.zeros(1, 0, 4, 4, dtype=torch.int64), "of shape"),
        (torch.zeros(1, 4, 4, dtype=torch.int64), "of shape"),
        (torch.zeros(1, 1, 4, 4), "whole numbers"),
    ],
)
def test_what_is_no_grid_of_tokens_is_refused_in_one_sentence(
    tokens: torch.Tensor, sentence: str
) -> None:
    with pytest.raises(ValueError, match=f"^tokens must be {sentence}"):
        build_tokenizer().decode(tokens)


def test_streamed_decode_equals_whole_decode() -> None:
    tokenizer = build_tokenizer()
    tokens = torch.randint(0, tokenizer.config.codebook_size, (2, 5, 4, 4))
    whole = tokenizer.decode(tokens)
    state: StreamState = {}
    parts = [tokenizer.decode(tokens[:, t : t + 1], state) for t in range(5)]
    assert [part.shape[2] for part in parts] == [1, 4, 4, 4, 4]
    torch.testing.assert_close(torch.cat(parts, dim=2), whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("latent_frames", [1, 3])
def test_a_stream_keeps_no_more_than_the_frames_that_it_needs(latent_frames: int) -> None:
    """A view would keep all that a layer has read: of `nano` up to 28 MiB per clip, not 1."""
    tokenizer = build_tokenizer()
    state: StreamState = {}
    for _ in range(2):
        tokenizer.decode(torch.zeros((2, latent_frames, 4, 4), dtype=torch.int64), state)
    held = {kept.untyped_storage().data_ptr(): kept.untyped_storage() for kept in state.values()}
    assert sum(storage.nbytes() for storage in held.values()) == sum(
        kept.nbytes for kept in state.values()
    )


def test_decoding_depends_on_earlier_latent_frames() -> None:
    """Otherwise the streaming test could pass with no state at all."""
    tokenizer = build_tokenizer()
    tokens = torch.randint(0, tokenizer.config.codebook_size, (1, 2, 4, 4))
    alone = tokenizer.decode(tokens[:, 1:])
    after = tokenizer.decode(tokens)[:, :, 1:]
    assert (alone[:, :, 0] - after[:, :, -1]).abs().max() > 1e-3


@pytest.mark.parametrize("changed", range(1, 17))
def test_a_frame_never_changes_tokens_of_earlier_latent_frames(changed: int) -> None:
    tokenizer = build_tokenizer()
    clip = torch.rand(1, 3, 17, 16, 16)
    other = clip.clone()
    other[:, :, changed] = torch.rand(1, 3, 16, 16)
    latent, other_latent = tokenizer.to_latent(clip), tokenizer.to_latent(other)
    own = 1 + (changed - 1) // 4
    assert torch.equal(latent[:, :own], other_latent[:, :own])
    assert not torch.equal(latent[:, own:], other_latent[:, own:])


def test_a_still_clip_has_still_tokens() -> None:
    tokenizer = build_tokenizer()
    clip = torch.rand(1, 3, 1, 32, 32).expand(-1, -1, 17, -1, -1)
    latent = tokenizer.to_latent(clip)
    torch.testing.assert_close(latent, latent[:, :1].expand_as(latent), atol=1e-5, rtol=0)


@pytest.mark.parametrize("stride", [(1, 1, 1), (2, 2, 2)])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (1, 3, 3), (3, 1, 1), (1, 1, 1)])
def test_a_causal_convolution_is_one_in_three_dimensions(kernel: Size3, stride: Size3) -> None:
    """Whatever shortcut its kernel allows, for any layout in memory."""
    torch.manual_seed(0)
    layer = CausalConv3d(4, 6, kernel, stride)
    x = torch.randn(2, 4, 5, 6, 8)
    kt, kh, kw = kernel
    edges = (kw // 2, kw // 2, kh // 2, kh // 2, kt - 1, 0)
    expected = layer.conv(F.pad(x, edges, mode="replicate"))
    for memory_format in (torch.contiguous_format, torch.channels_last_3d):
        found = layer(x.contiguous(memory_format=memory_format))
        torch.testing.assert_close(found, expected)
