from dataclasses import replace

import torch
import torch.nn.functional as F

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.data.tokens import PHOTO_LOOK, TokenSet
from nbp_core.train.loop.task import Part
from nbp_core.train.transformer import TransformerRecipe, TransformerTask
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
