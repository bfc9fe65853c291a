import math

import pytest
import torch

from nbp_core.tokenizer.fsq import FSQ


@pytest.mark.parametrize("levels", [(8, 8, 8, 5, 5, 5), (7, 5, 5, 5, 5), (8, 5, 5, 5), (2, 3)])
def test_all_codes_round_trip(levels: tuple[int, ...]) -> None:
    fsq = FSQ(levels)
    tokens = torch.arange(math.prod(levels))
    codes = fsq.token_to_code(tokens)
    assert torch.equal(fsq.code_to_token(codes), tokens)
    assert codes.min() >= -1
    assert codes.max() <= 1


def test_the_papers_levels_give_64000_codes_and_the_documented_basis() -> None:
    fsq = FSQ((8, 8, 8, 5, 5, 5))
    assert fsq.codebook_size == 64_000
    assert fsq.basis.tolist() == [1, 8, 64, 512, 2560, 12800]


def test_every_level_can_be_reached_and_none_beyond() -> None:
    fsq = FSQ((8, 5))
    latent = torch.linspace(-8, 8, 4001).unsqueeze(1).expand(-1, 2)
    digits = (fsq(latent) * fsq.half_width + fsq.half_width).round().long()
    assert digits[:, 0].unique().tolist() == list(range(8))
    assert digits[:, 1].unique().tolist() == list(range(5))


def test_gradient_passes_straight_through() -> None:
    latent = torch.zeros(4, 3, requires_grad=True)
    FSQ((8, 5, 5))(latent).sum().backward()
    assert latent.grad is not None
    assert (latent.grad > 0).all()
