import torch

from nbp_core.train.losses import stillness_loss


def test_only_what_does_not_move_is_held_still() -> None:
    rng = torch.Generator().manual_seed(0)
    clip_BCTHW = torch.full((1, 3, 5, 16, 16), 0.5)
    clip_BCTHW[:, :, 2:, :8, :8] = 0.9  # the first of four places moves
    bounded = torch.randn(1, 2, 2, 2, 5, generator=rng)
    change = bounded.diff(dim=1).abs()[0, 0]
    expected = torch.stack([change[0, 1], change[1, 0], change[1, 1]]).mean()
    torch.testing.assert_close(stillness_loss(bounded, clip_BCTHW), expected)
    held = bounded[:, :1].expand(-1, 2, -1, -1, -1)
    assert stillness_loss(held, clip_BCTHW) == 0


def test_a_clip_all_in_motion_and_an_image_cost_nothing() -> None:
    rng = torch.Generator().manual_seed(0)
    clip_BCTHW = torch.rand(1, 3, 5, 16, 16, generator=rng)
    bounded = torch.randn(1, 2, 2, 2, 5, generator=rng)
    assert stillness_loss(bounded, clip_BCTHW) == 0
    assert stillness_loss(bounded[:, :1], clip_BCTHW[:, :, :1]) == 0
