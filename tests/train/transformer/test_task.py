"""The losses of a transformer's batches, own draws, and what is refused before a run."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.data.camera_moves import PHOTO_LOOK
from nbp_core.data.tokens import TokenSet
from nbp_core.train.loop.task import Part
from nbp_core.train.transformer.batches import Batch
from nbp_core.train.transformer.recipe import TransformerRecipe
from nbp_core.train.transformer.task import TransformerTask
from tests.support.models import build_transformer, transformer_config
from tests.train.test_trainer import token_set

GRID = (5, 4, 16)
ROWS = (1, 1, 16)
MODEL = build_transformer(transformer_config(grid=GRID))


def task(clips: TokenSet, given_looks: tuple[str, ...] = (PHOTO_LOOK,)) -> TransformerTask:
    recipe = TransformerRecipe(
        shapes=(ROWS,), shape_weights=(1.0,), num_validation_clips=4, given_looks=given_looks
    )
    return TransformerTask(MODEL, recipe, clips, clips, batch_size=2, seed=0)


def loss_from(clips: TokenSet, rank: int) -> float:
    """Mean cross-entropy of the video tokens from a rank in block order on."""
    layout = sequence_layout(MODEL.config, ROWS)
    tokens = torch.from_numpy(clips.tokens_Nthw.astype("int64"))
    ids = torch.tensor([[MODEL.config.actions.index(name)] for name in clips.actions])
    conditions = ids + MODEL.config.first_condition_id
    logits = MODEL(layout.input_ids(tokens, conditions), layout=layout)
    video = logits[:, layout.prefix_len :, MODEL.config.first_video_id :]
    targets = layout.targets(tokens)[:, layout.prefix_len :]
    return float(F.cross_entropy(video[:, rank:].flatten(0, 1), targets[:, rank:].flatten()))


def test_first_frames_that_are_given_are_not_learned() -> None:
    clips = token_set(4, GRID)
    photos = replace(clips, looks=[PHOTO_LOOK] * 4)
    first_frame = GRID[1] * GRID[2]
    torch.testing.assert_close(task(clips).validate()["1x1x16"], loss_from(clips, 0))
    torch.testing.assert_close(task(photos).validate()["1x1x16"], loss_from(clips, first_frame))
    learned = task(photos, given_looks=()).validate()["1x1x16"]
    torch.testing.assert_close(learned, loss_from(clips, 0))


def test_the_validation_loss_is_a_mean_over_tokens_whatever_its_parts() -> None:
    """17 clips are measured 9 and 8 at a time, and given frames count for nothing."""
    clips = token_set(17, GRID)
    first_frame = GRID[1] * GRID[2]
    tokens = clips.tokens_Nthw.copy()
    tokens[9:] = 0
    clips = replace(clips, tokens_Nthw=tokens, looks=["stock"] * 9 + [PHOTO_LOOK] * 8)
    stock, photos = (
        TokenSet(tokens[part], clips.actions[part], clips.looks[part])
        for part in (slice(9), slice(9, None))
    )
    total = 9 * 5 * loss_from(stock, 0) + 8 * 4 * loss_from(photos, first_frame)
    recipe = TransformerRecipe(
        shapes=(ROWS,), shape_weights=(1.0,), num_validation_clips=17, given_looks=(PHOTO_LOOK,)
    )
    found = TransformerTask(MODEL, recipe, clips, clips, batch_size=2, seed=0).validate()
    assert found["1x1x16"] == pytest.approx(total / (9 * 5 + 8 * 4), rel=1e-5)


def test_single_frames_are_drawn_from_the_clips_that_start_with_them() -> None:
    photos = replace(token_set(4, GRID), looks=[PHOTO_LOOK] * 4)
    part = Part()
    lengths = {task(photos).loss(step, 0.0, part)[1]["latent_frames"] for step in range(12)}
    assert 1 not in lengths
    assert 1 in {task(token_set(4, GRID)).loss(s, 0.0, part)[1]["latent_frames"] for s in range(12)}


def test_parts_of_a_batch_add_up_to_it() -> None:
    clips = replace(token_set(4, GRID), looks=[PHOTO_LOOK, "stock", PHOTO_LOOK, "stock"])
    training = task(clips)
    for step in range(4):
        whole = training.loss(step, 0.5, Part())[0]
        parts = [training.loss(step, 0.5, Part(index, 2))[0] for index in range(2)]
        torch.testing.assert_close(torch.stack(parts).mean(), whole)


KEYED = build_transformer(
    replace(
        transformer_config(grid=(3, 4, 16)),
        keys=("x", "y"),
        num_conditions=len(transformer_config().actions) + 3,
        frame_conditions=True,
        window=2,
    )
)


def keyed_sets() -> dict[str, TokenSet]:
    tokens = np.random.default_rng(0).integers(10, size=(4, 7, 4, 16)).astype(np.uint16)
    keys: list[tuple[str, ...]] = [("x", "y") * 3, ("y", "x") * 3] * 2
    played = TokenSet(tokens, ["arm"] * 4, ["arm"] * 4, keys)
    return {"clips": token_set(4, (3, 4, 16)), "arm": played}


def keyed_task(**recipe: Any) -> TransformerTask:
    lengths = (0.0, 0.5, 0.0, 0.5)
    chosen = TransformerRecipe(
        shapes=(ROWS,), shape_weights=(1.0,), early_lengths=lengths, late_lengths=lengths,
        given_looks=("arm",), num_validation_clips=4, **recipe,
    )  # fmt: skip
    sets = keyed_sets()
    return TransformerTask(KEYED, chosen, sets, sets, batch_size=2, seed=0, levels=(5, 5))


def test_the_first_frame_of_a_later_window_is_not_asked() -> None:
    """Its loss does not change with what it holds; that of a window from the start does."""
    training = keyed_task()
    layout = sequence_layout(KEYED.config, ROWS, 3)
    for first, is_asked in ((1, True), (4, False)):
        batch = Batch.of([(training.batches.sources[1], 0)], 3, first)
        other = batch.tokens_Bthw.copy()
        other[:, 1] = (other[:, 1] + 1) % 10
        seen = batch.tokens_Bthw
        losses = [
            training._clip_loss(replace(batch, tokens_Bthw=tokens), layout, seen)
            for tokens in (batch.tokens_Bthw, other)
        ]
        assert bool(losses[0] != losses[1]) == is_asked


def test_every_batch_of_later_windows_teaches_something() -> None:
    """A window of two latent frames would be the given one and one that is not asked."""
    training = keyed_task(later_windows=1.0, source_shares=(("arm", 1.0),))
    figures = [training.loss(step, 0.0, Part()) for step in range(8)]
    assert {found["latent_frames"] for _, found in figures} == {2, 4}
    assert all(loss > 0 for loss, _ in figures)


def test_parts_of_a_batch_of_later_windows_add_up_to_it() -> None:
    lengths = (0.0, 0.0, 0.0, 1.0)
    recipe = TransformerRecipe(
        shapes=(ROWS,), shape_weights=(1.0,), early_lengths=lengths, late_lengths=lengths,
        given_looks=("arm",), num_validation_clips=4, later_windows=1.0,
    )  # fmt: skip
    sets = {"arm": replace(keyed_sets()["arm"], looks=["arm", "stock", "arm", "stock"])}
    training = TransformerTask(KEYED, recipe, sets, sets, batch_size=4, seed=0, levels=(5, 5))
    for step in range(6):
        whole = training.loss(step, 0.5, Part())[0]
        parts = [training.loss(step, 0.5, Part(index, 2))[0] for index in range(2)]
        torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_keys_need_a_model_with_conditions_per_latent_frame() -> None:
    with pytest.raises(ValueError, match="no conditions per latent frame"):
        task(keyed_sets()["arm"])


def test_wrong_tokens_in_the_context_change_the_loss_of_a_step() -> None:
    clean, noisy = keyed_task(), keyed_task(context_noise=0.5)
    assert clean.loss(0, 0.0, Part())[0] != noisy.loss(0, 0.0, Part())[0]
    assert set(noisy.validate()) == {"1x1x16", "arm", "arm_without"}


@pytest.mark.parametrize(("first", "known"), [(1, 1), (3, 2)], ids=["start", "later window"])
def test_own_draws_stand_in_the_context_of_clips_with_keys(
    first: int, known: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here a model always draws token 7. Given frames stay, the others are replaced as wholes."""
    training = keyed_task(own_draws=1.0)
    likely = torch.full((10,), -1e4)
    likely[7] = 0.0
    monkeypatch.setattr(KEYED, "video_logits", lambda x: likely.expand(*x.shape[:-1], 10))
    batch = Batch.of([(training.batches.sources[1], row % 4) for row in range(8)], 3, first)
    real = batch.tokens_Bthw % 7
    layout = sequence_layout(KEYED.config, ROWS, 3)
    seen = training._with_own_draws(batch, layout, real, np.random.default_rng(0))
    np.testing.assert_array_equal(seen[:, :known], real[:, :known])
    is_drawn_Bt = (seen[:, known:] == 7).all((2, 3))
    assert is_drawn_Bt.all(1).any()
    assert not is_drawn_Bt.all()
    np.testing.assert_array_equal(seen[:, known:][~is_drawn_Bt], real[:, known:][~is_drawn_Bt])
    without_keys = replace(batch, is_keyed_B=np.full(8, False))
    rng = np.random.default_rng(0)
    assert training._with_own_draws(without_keys, layout, real, rng) is real


def test_a_draw_follows_the_probabilities_of_its_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one token, over many draws, each with a temperature between 0.6 and 1."""
    training = keyed_task(own_draws=1.0)
    logits_of = KEYED.video_logits
    monkeypatch.setattr(KEYED, "video_logits", lambda x: 10 * logits_of(x))
    layout = sequence_layout(KEYED.config, ROWS, 2)
    batch = Batch.of([(training.batches.sources[1], 0)], 2, 1)
    seen = batch.tokens_Bthw
    place = layout.target_place_L[layout.prefix_len :] == int(np.ravel_multi_index((1, 0, 3), GRID))
    features = training._features(batch, layout, torch.from_numpy(seen))
    logits = KEYED.video_logits(features[0, place][0]).detach()
    chances = torch.stack([(logits / t).softmax(-1) for t in torch.linspace(0.6, 1, 9)]).mean(0)
    assert chances.max() > 0.3  # not close to uniform
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    drawn = [training._draw(batch, layout, seen, rng)[0, 1, 0, 3] for _ in range(400)]
    shares = np.bincount(drawn, minlength=len(chances)) / 400
    np.testing.assert_allclose(shares, chances.numpy(), atol=0.08)


def test_own_draws_change_the_loss_of_a_step() -> None:
    plain, own = keyed_task(), keyed_task(own_draws=1.0)
    losses = [(plain.loss(step, 0.0, Part())[0], own.loss(step, 0.0, Part())[0]) for step in (0, 1)]
    assert any(a != b for a, b in losses)


def test_tokens_that_stand_still_weigh_as_the_recipe_says() -> None:
    """A clip whose second latent frame repeats its first: of the mean over both, the second's part
    is scaled, and that of a clip in which every token changes is not."""
    full, light = keyed_task(), keyed_task(still_weight=0.25)
    batch = Batch.of([(full.batches.sources[0], 0)], 2, 1)
    layout = sequence_layout(KEYED.config, ROWS, 2)
    still, moving = batch.tokens_Bthw.copy(), batch.tokens_Bthw.copy()
    still[:, 1], moving[:, 1] = still[:, 0], (still[:, 0] + 1) % 10
    for tokens, factor in ((still, 0.25), (moving, 1.0)):
        clip = replace(batch, tokens_Bthw=tokens)
        plain, weighted = (t._clip_loss(clip, layout, is_weighted=True) for t in (full, light))
        alone = replace(clip, is_given_B=np.array([True]))
        second = full._clip_loss(alone, layout) / 2  # half of the tokens asked
        torch.testing.assert_close(weighted, plain - (1 - factor) * second)
    assert full._clip_loss(batch, layout) == light._clip_loss(batch, layout)


WHOLE = (0.0,) * 4 + (1.0,)


@pytest.mark.parametrize(
    ("recipe", "sentence"),
    [
        ({"early_lengths": (0.0,) * 5 + (1.0,), "late_lengths": (1.0,) * 6},
         "early_lengths gives no weight to a length that these clips allow: they have at most 5"),
        ({"early_lengths": (1.0,), "late_lengths": (1.0,), "given_looks": ("stock",)},
         "early_lengths gives no weight to a length"),
        ({"shapes": ((1, 1, 16), (1, 3, 16)), "shape_weights": (1.0, 0.01)},
         "block shape 1x3x16 does not tile the 1x4x16 grid"),
        ({"shapes": ((2, 1, 8),), "shape_weights": (1.0,)},
         "block shape 2x1x8 does not tile the 1x4x16 grid"),
        ({"look_weights": (("stock", 1.0), ("stok", 2.0))},
         "^look_weights names 'stok', not one of 'stock'$"),
        ({"look_weights": (("stock", 0.0),)}, "leave no clip to train on"),
        ({"source_shares": (("clips", 0.0),)}, "leave no clip to train on"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_drawn_is_refused_before_the_first_step(
    recipe: dict[str, Any], sentence: str
) -> None:
    clips = token_set(4, GRID)
    chosen = TransformerRecipe(**{"shapes": (ROWS,), "shape_weights": (1.0,), **recipe})
    with pytest.raises(ValueError, match=sentence):
        TransformerTask(MODEL, chosen, clips, clips, batch_size=2, seed=0)


def test_lengths_and_shapes_without_a_share_are_not_asked_for() -> None:
    clips = token_set(4, GRID)
    recipe = TransformerRecipe(
        shapes=(ROWS, (2, 1, 8)), shape_weights=(1.0, 0.0),
        early_lengths=WHOLE, late_lengths=WHOLE, num_validation_clips=1,
    )  # fmt: skip
    training = TransformerTask(MODEL, recipe, clips, clips, batch_size=2, seed=0)
    assert {training.loss(step, 0.5, Part())[1]["latent_frames"] for step in range(3)} == {5}


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), 1e308])
@pytest.mark.parametrize("name", ["look_weights", "source_shares"])
def test_weights_that_are_no_weights_are_refused(name: str, weight: float) -> None:
    with pytest.raises(ValueError, match=f"every number of {name} must be at"):
        TransformerRecipe(**{name: (("stock", weight),)})  # type: ignore[arg-type]


def test_a_process_may_have_no_sequence_of_a_batch() -> None:
    """Of long clips a batch holds fewer; whoever has none adds nothing."""
    training = task(token_set(4, GRID))
    model = build_transformer(transformer_config(grid=GRID)).requires_grad_()
    training.model = model
    for step in range(4):
        whole = training.loss(step, 0.5, Part())[0]
        parts = [training.loss(step, 0.5, Part(index, 12))[0] for index in range(12)]
        torch.testing.assert_close(torch.stack(parts).mean(), whole)
        parts[-1].backward()  # type: ignore[no-untyped-call]
        gradients = [parameter.grad for parameter in model.parameters()]
        assert all(gradient is not None for gradient in gradients)
        if training.loss(step, 0.5, Part())[1]["latent_frames"] == 5:
            assert not any(g.any() for g in gradients if g is not None)
        model.zero_grad()
