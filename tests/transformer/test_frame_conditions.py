"""Conditions per latent frame, and a window of latent frames with the first one as its anchor."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nbp_core.blocks.sequences import SequenceLayout, sequence_layout
from nbp_core.config.models import TransformerConfig
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import Size3
from nbp_core.packed.model import pack
from nbp_core.sampling.sampler import Sampler
from nbp_core.sampling.steps import decoder_of
from nbp_core.transformer.model import BlockTransformer

ONE = TransformerConfig(
    name="one",
    num_layers=2,
    width=64,
    num_heads=2,
    layout="elastic",
    codebook_size=11,
    block_shape=(1, 1, 4),
    grid=(3, 4, 4),
    num_conditions=6,
    prefix_len=1,
    actions=("a", "b"),
    keys=("x", "y", "z"),
    rope=True,
    rms_norm=True,
    swiglu=True,
    aimed=True,
)
CONFIG = replace(ONE, name="many", frame_conditions=True, window=2)
SHAPES: list[Size3] = [(1, 1, 1), (1, 1, 4), (1, 4, 4), (2, 1, 2)]


def random_model(config: TransformerConfig) -> BlockTransformer:
    """Weights large enough for a wrong condition to be seen."""
    torch.manual_seed(0)
    model = BlockTransformer(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.2 if ".aim." not in name else 0.05)
    return model


def sequence(
    config: TransformerConfig, shape: Size3, num_frames: int = 3
) -> tuple[SequenceLayout, Tensor, Tensor]:
    """(layout, ids_BL, condition ids_Bt) of two random clips."""
    rng = torch.Generator().manual_seed(1)
    layout = sequence_layout(config, shape, num_frames)
    tokens = torch.randint(0, config.codebook_size, (2, *layout.blocks.grid), generator=rng)
    drawn = torch.randint(0, config.num_conditions, (2, num_frames), generator=rng)
    conditions = drawn + config.first_condition_id
    return layout, layout.input_ids(tokens, conditions[:, :1]), conditions


@pytest.mark.parametrize("shape", SHAPES)
def test_one_condition_for_all_is_as_many_equal_ones(shape: Size3) -> None:
    model = random_model(CONFIG)
    layout, ids, conditions = sequence(CONFIG, shape)
    equal = conditions[:, :1].expand_as(conditions)
    with torch.inference_mode():
        one = model.features(ids, layout)
        many = model.features(ids, layout, conditions_Bt=equal)
    torch.testing.assert_close(one, many, atol=1e-4, rtol=1e-4)


def test_a_new_model_computes_what_one_with_a_single_condition_does() -> None:
    old, new = random_model(ONE), BlockTransformer(CONFIG).eval()
    missing, unexpected = new.load_state_dict(old.state_dict(), strict=False)
    assert (missing, unexpected) == (["frame_emb.weight"], [])
    layout, ids, _ = sequence(CONFIG, (1, 1, 4))
    with torch.inference_mode():
        assert torch.equal(old.features(ids, sequence_layout(ONE)), new.features(ids, layout))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_condition_changes_what_is_predicted_from_its_frame_on(shape: Size3) -> None:
    model = random_model(CONFIG)
    layout, ids, conditions = sequence(CONFIG, shape)
    other = conditions.clone()
    other[:, 1] = CONFIG.first_condition_id + (other[:, 1] - CONFIG.first_condition_id + 1) % 6
    with torch.inference_mode():
        one, two = (model.features(ids, layout, conditions_Bt=c) for c in (conditions, other))
    changed = (one != two).any(-1).all(0)
    # What sees a block sees all of it, and a block that spans time predicts two frames at once.
    first = int((layout.segment_L[layout.target_frame_L >= 1]).min())
    assert torch.equal(changed, layout.segment_L >= first)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("num_frames", [3, 6])
def test_decoding_step_by_step_is_the_masked_forward(shape: Size3, num_frames: int) -> None:
    if num_frames == 6 and shape[0] == 2:
        shape = (1, 2, 2)
    model = random_model(CONFIG)
    layout, ids, conditions = sequence(CONFIG, shape, num_frames)
    with torch.inference_mode():
        whole = model.features(ids, layout, conditions_Bt=conditions)
        cache = model.new_cache(2, layout.length)
        parts = [
            model.features(
                ids[:, step.start : step.stop],
                layout,
                start=step.start,
                cache=cache,
                conditions_Bt=conditions,
            )
            for step in layout.decode_steps(16)
        ]
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-4, rtol=1e-4)


def test_a_window_hides_what_is_further_back_but_for_the_first_frame() -> None:
    layout = sequence_layout(CONFIG, (1, 1, 4), 6)
    mask, plain = layout.mask_LL, replace_window(layout).mask_LL
    for query in range(layout.length):
        target = int(layout.target_frame_L[query])
        for key in range(layout.length):
            frame = int(layout.frame_L[key])
            seen = bool(plain[query, key]) and (frame == 0 or frame >= target - 2)
            assert bool(mask[query, key]) == seen
    assert not mask.equal(plain)
    for step in layout.decode_steps(16)[1:]:
        all_seen = bool(mask[step.start : step.stop, : step.stop].all())
        assert layout.sees_all(step.start, step.stop) == all_seen


def replace_window(layout: SequenceLayout) -> SequenceLayout:
    return SequenceLayout(layout.kind, layout.blocks, layout.prefix_len, layout.first_video_id)


def test_within_the_grid_a_window_hides_nothing() -> None:
    layout = sequence_layout(CONFIG, (1, 1, 4), 3)
    assert torch.equal(layout.mask_LL, replace_window(layout).mask_LL)


def test_frames_beyond_the_grid_are_told_apart_by_rotation_alone() -> None:
    model = random_model(CONFIG)
    layout = sequence_layout(CONFIG, (1, 1, 4), 6)
    inputs = model.position_inputs(layout)
    assert inputs.rotation is not None
    at = {int(place): i for i, place in enumerate(layout.place_L) if i > layout.head_len}
    last, beyond = at[2 * 16 + 4], at[4 * 16 + 4]
    torch.testing.assert_close(inputs.added_LD[last], inputs.added_LD[beyond])
    assert not torch.equal(inputs.rotation.cos[1, 0, 0, last], inputs.rotation.cos[1, 0, 0, beyond])


def test_missing_frames_are_a_shift_of_time() -> None:
    model = random_model(CONFIG)
    near, far = sequence_layout(CONFIG, (1, 1, 4), 4), sequence_layout(CONFIG, (1, 1, 4), 6)
    shifted, plain = model.position_inputs(near, shift=2), model.position_inputs(far)
    assert shifted.rotation is not None
    assert plain.rotation is not None
    at = {int(place): i for i, place in enumerate(far.place_L) if i > far.head_len}
    for i, place in enumerate(near.place_L):
        if i > near.head_len and place >= 16:
            torch.testing.assert_close(
                shifted.rotation.cos[1, 0, 0, i], plain.rotation.cos[1, 0, 0, at[int(place) + 32]]
            )
    torch.testing.assert_close(
        shifted.rotation.cos[1, :, :, :16],
        model.position_inputs(near).rotation.cos[1, :, :, :16],  # type: ignore[union-attr]
    )


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_packed_decoding_has_the_conditions_of_its_frames(guidance: float) -> None:
    """Compiled where the processor can, else as PyTorch does it; argmax tells what differs."""
    plain, packed = random_model(CONFIG), pack(random_model(CONFIG), "float32")
    decoder_of(packed).wait_until_ready()
    layout = sequence_layout(CONFIG, (1, 1, 4))
    tokens = torch.zeros(2, 3, 4, 4, dtype=torch.int64)
    first = CONFIG.first_condition_id
    nulls = None if guidance == 1 else torch.full((2, 1), first + 5)
    made = []
    for model in (plain, packed):
        for frames in ([[0, 1, 2], [3, 4, 1]], [[0, 1, 4], [3, 4, 2]]):
            sampling = SamplingConfig(temperature=0, guidance_scale=guidance, block_shape=(1, 1, 4))
            sampler = Sampler(
                decoder_of(model), layout, sampling, [torch.Generator() for _ in tokens]
            )
            conditions = torch.tensor(frames) + first
            steps = sampler.stream(
                tokens, 16, conditions[:, :1], nulls, frame_conditions_Bt=conditions
            )
            made.append(torch.cat([step.tokens_Bn for step in steps], 1))
    assert torch.equal(made[0], made[2])
    assert torch.equal(made[1], made[3])
    assert torch.equal(made[0][:, :16], made[1][:, :16])
    assert not torch.equal(made[0], made[1])
