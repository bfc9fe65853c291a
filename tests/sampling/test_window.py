"""Latent frames for ever: what a window of cache makes is what one long masked sequence makes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import Size3
from nbp_core.packed.formats import choose_format
from nbp_core.packed.model import pack
from nbp_core.sampling import window
from nbp_core.sampling.sampler import Sampler
from nbp_core.sampling.steps import decoder_of
from nbp_core.sampling.window import WindowSampler
from nbp_core.transformer.model import BlockTransformer
from nbp_core.transformer.positions import rotary_angles, rotation_of, turned_later
from tests.transformer.test_frame_conditions import CONFIG, random_model

FIRST = torch.arange(16).view(1, 4, 4) % CONFIG.codebook_size
KEYS = [2, 0, 1, 4, 3, 2, 2, 5, 0, 1]


def sampling(shape: Size3 = (1, 1, 4), **more: float) -> SamplingConfig:
    return SamplingConfig(block_shape=shape, **{"temperature": 0, **more})  # type: ignore[arg-type]


def played(
    model: BlockTransformer, chosen: SamplingConfig, keys: list[int], first: Tensor = FIRST
) -> Tensor:
    """Tokens (t, h, w) of the frames that keys make."""
    rngs = [torch.Generator().manual_seed(chosen.seed) for _ in first]
    sampler = WindowSampler(model, first[:, None], chosen, rngs)
    return torch.cat([sampler.next(CONFIG.first_condition_id + key) for key in keys])


def in_one_sequence(model: BlockTransformer, chosen: SamplingConfig, keys: list[int]) -> Tensor:
    layout = sequence_layout(CONFIG, chosen.block_shape, 1 + len(keys))
    tokens = torch.zeros(1, *layout.blocks.grid, dtype=torch.int64)
    tokens[:, 0] = FIRST
    none = CONFIG.first_condition_id + CONFIG.num_conditions - 1
    frames = torch.tensor([[none, *(CONFIG.first_condition_id + key for key in keys)]])
    nulls = None if chosen.guidance == 1 else torch.full((1, 1), none)
    rng = torch.Generator().manual_seed(chosen.seed)
    sampler = Sampler(decoder_of(model), layout, chosen, [rng])
    steps = sampler.stream(tokens, 16, frames[:, :1], nulls, frame_conditions_Bt=frames)
    made = torch.cat([step.tokens_Bn for step in steps], 1)
    size = layout.blocks.block_len
    all_blocks = torch.cat([layout.blocks.to_blocks(tokens)[:, : 16 // size].flatten(1), made], 1)
    return layout.blocks.to_grid(all_blocks.view(1, -1, size))[0, 1:]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 4), (1, 2, 4), (1, 4, 4)])
@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_a_window_makes_what_one_long_sequence_makes(shape: Size3, guidance: float) -> None:
    model, chosen = random_model(CONFIG), sampling(shape, temperature=1, guidance_scale=guidance)
    assert len(KEYS) < window.ANCHOR_DISTANCE
    found = played(model, chosen, KEYS)
    assert len(set(found.flatten().tolist())) > 3  # a constant would be equal too
    assert torch.equal(found, in_one_sequence(model, chosen, KEYS))


@pytest.mark.parametrize("known", [1, 2, 3])
@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_it_continues_from_known_frames(known: int, guidance: float) -> None:
    """Within the window nothing is lost; the settings may then be others."""
    model, chosen = random_model(CONFIG), sampling(guidance_scale=guidance)
    assert CONFIG.window is not None
    assert known <= 1 + CONFIG.window
    frames = torch.cat([FIRST, played(model, chosen, KEYS)])
    none = CONFIG.num_conditions - 1
    ids = CONFIG.first_condition_id + torch.tensor([[none, *KEYS]])
    sampler = WindowSampler(
        model, frames[None, :known], chosen, [torch.Generator()], conditions_Bt=ids[:, :known]
    )
    for number in range(known, len(KEYS) + 1):
        assert torch.equal(sampler.next(int(ids[0, number]))[0], frames[number])


def test_of_many_known_frames_the_most_recent_count() -> None:
    model, chosen = random_model(CONFIG), sampling()
    frames = torch.cat([FIRST, played(model, chosen, KEYS * 3)])[None]
    window = CONFIG.window
    assert window is not None
    recent = torch.cat([frames[:, :1], frames[:, -window:]], 1)
    made = [
        WindowSampler(model, known, chosen, [torch.Generator()], num_dropped=dropped).next(
            CONFIG.first_condition_id
        )
        for known, dropped in ((frames, 0), (recent, 30 - window), (recent, 10_000))
    ]
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])  # further back than the anchor may be is not further


def test_without_an_anchor_only_the_window_is_kept() -> None:
    model = random_model(CONFIG)
    sizes = {}
    for has_anchor in (True, False):
        sampler = WindowSampler(
            model, FIRST[:, None], sampling(), [torch.Generator()], has_anchor=has_anchor
        )
        made = [sampler.next(CONFIG.first_condition_id + key) for key in KEYS * 2]
        sizes[has_anchor] = sampler.cache_length, torch.cat(made)
    assert CONFIG.window is not None
    # The last block of the latest latent frame is not fed yet.
    assert sizes[False][0] == CONFIG.window * 16 + 16 - 4
    assert sizes[True][0] > sizes[False][0]
    first = CONFIG.window + 1  # latent frames sampled before the first one is dropped
    assert torch.equal(sizes[True][1][:first], sizes[False][1][:first])
    assert not torch.equal(sizes[True][1], sizes[False][1])


def test_each_clip_of_a_batch_has_its_own_key() -> None:
    model, chosen = random_model(CONFIG), sampling()
    rngs = [torch.Generator() for _ in range(2)]
    both = WindowSampler(model, FIRST[:, None].repeat(2, 1, 1, 1), chosen, rngs)
    keys = torch.tensor([KEYS, KEYS[::-1]]) + CONFIG.first_condition_id
    found = torch.stack([both.next(keys[:, i]) for i in range(len(KEYS))], 1)
    assert torch.equal(found[0], played(model, chosen, KEYS))
    assert torch.equal(found[1], played(model, chosen, KEYS[::-1]))


def test_keys_matter_from_their_frame_on() -> None:
    model = random_model(CONFIG)
    warm = sampling(temperature=1)
    one, other = played(model, warm, KEYS), played(model, warm, [*KEYS[:6], 4, *KEYS[7:]])
    assert torch.equal(one[:6], other[:6])
    assert not torch.equal(one[6], other[6])


def test_the_cache_stays_as_large_as_it_is() -> None:
    model = random_model(CONFIG)
    sampler = WindowSampler(model, FIRST[:, None], sampling(), [torch.Generator()])
    sizes = []
    for i in range(40):
        sampler.next(CONFIG.first_condition_id + i % 6)
        sizes.append(sampler.cache_bytes)
    assert len(set(sizes[CONFIG.window or 0 :])) == 1
    assert sizes[0] < sizes[-1]


def test_far_from_the_anchor_it_lies_as_far_as_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames that differ in nothing but their time are then made from equal logits."""
    monkeypatch.setattr(window, "ANCHOR_DISTANCE", 5)
    model = random_model(CONFIG)
    sampler = WindowSampler(model, FIRST[:, None], sampling(), [torch.Generator()])
    for _ in range(6):
        sampler.next(CONFIG.first_condition_id)
    anchor, position = sampler._anchor, 7  # one that stands at a place
    assert anchor is not None
    now = sampler._cache.keys[0, 0, 0, position]
    torch.testing.assert_close(now, turned_later(anchor, 1)[0, 0, 0, position])
    assert not torch.equal(now, anchor[0, 0, 0, position])


def test_turning_later_is_rotating_for_a_later_place() -> None:
    places = torch.tensor([3, 9, 14])
    angles = [rotary_angles(places + 16 * frames, (3, 4, 4), 32) for frames in (0, 5)]
    now, later = (rotation_of(angle, angle, torch.float32) for angle in angles)
    x = torch.randn(2, 1, 1, 3, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(turned_later(now.of(x), 5), later.of(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("weights", [choose_format("cpu"), "float32"])
@pytest.mark.parametrize("temperature", [0.0, 1e-3])
def test_a_packed_model_plays_the_same(weights: str, temperature: float) -> None:
    """Nearly cold: what is drawn is what is likeliest, whichever way steps are computed."""
    plain, packed = random_model(CONFIG), pack(random_model(CONFIG), weights)  # type: ignore[arg-type]
    decoder_of(packed).wait_until_ready()
    expected = played(plain, sampling(), KEYS)
    found = played(packed, sampling(temperature=temperature, top_p=1.0), KEYS)
    assert (found == expected).float().mean() > 0.95


def test_the_same_seed_plays_the_same() -> None:
    model = random_model(CONFIG)
    warm = sampling(temperature=1.0, seed=4)
    assert torch.equal(played(model, warm, KEYS), played(model, warm, KEYS))
    other = played(model, replace(warm, seed=5), KEYS)
    assert not torch.equal(played(model, warm, KEYS), other)


def test_what_cannot_be_played_is_refused() -> None:
    model = random_model(CONFIG)
    with pytest.raises(ValueError, match="span latent frames"):
        played(model, sampling((2, 1, 2)), KEYS)
    old = BlockTransformer(replace(CONFIG, window=None))
    with pytest.raises(ValueError, match="was not trained with a window"):
        played(old, sampling(), KEYS)
