"""A grown model computes what the smaller one does, and every part of it can learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.models import TransformerConfig
from nbp_core.config.presets import elastic
from nbp_core.train.growth import fit_weights, grown, reconditioned
from nbp_core.transformer.model import BlockTransformer

SMALL = elastic("small", 2, 64, 50, ("push", "pull"))
SMALL = replace(SMALL, grid=(2, 4, 4), block_shape=(1, 1, 4))
LARGE = replace(SMALL, name="large", num_layers=5, width=192, num_heads=3)


def trained(config: TransformerConfig) -> BlockTransformer:
    """Random weights everywhere, biases and norms too, as training leaves them."""
    model = BlockTransformer(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.2)
    return model


def ids_of(config: TransformerConfig) -> torch.Tensor:
    return torch.randint(0, config.vocab_size, (2, sequence_layout(config).length))


@pytest.mark.parametrize(
    "large",
    [LARGE, replace(LARGE, width=64, num_heads=1), replace(LARGE, num_layers=2)],
    ids=["both", "deeper", "wider"],
)
@pytest.mark.parametrize("is_aimed", [False, True])
def test_a_grown_model_computes_the_same(large: TransformerConfig, is_aimed: bool) -> None:
    small = trained(replace(SMALL, aimed=is_aimed))
    ids = ids_of(SMALL)
    torch.testing.assert_close(grown(small, large)(ids), small(ids), rtol=1e-3, atol=1e-3)


def test_a_plain_model_grows_deeper() -> None:
    plain = TransformerConfig(
        name="plain", num_layers=2, width=32, num_heads=2, layout="plain", codebook_size=30,
        block_shape=(1, 1, 1), grid=(2, 2, 2), max_len=8,
    )  # fmt: skip
    small = trained(plain)
    ids = ids_of(plain)
    larger = grown(small, replace(plain, num_layers=3))
    torch.testing.assert_close(larger(ids), small(ids), rtol=1e-3, atol=1e-3)


def test_every_new_row_and_column_has_a_gradient_after_two_steps() -> None:
    model = grown(trained(SMALL), LARGE)
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    for _ in range(3):
        optimiser.zero_grad()
        model(ids_of(LARGE)).logsumexp(-1).mean().backward()
        optimiser.step()
    matrices = [p for n, p in model.named_parameters() if n.endswith("weight") and p.dim() == 2]
    grads = [p.grad for p in matrices if p.grad is not None]
    assert len(grads) == len(matrices)
    assert all(grad[:, -1].any() for grad in grads)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"codebook_size": 51}, "its codebook_size differs"),
        ({"num_layers": 1}, "not larger"),
        ({"num_heads": 6}, "must be as wide"),
        ({"rms_norm": False}, "its rms_norm differs"),
        ({"aimed": False}, "its aimed differs"),
        ({"mlp_ratio": 1.0}, "not larger"),
    ],
)
def test_what_cannot_grow_is_told(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        grown(BlockTransformer(SMALL), replace(LARGE, **change))


@pytest.mark.parametrize(
    "change",
    [
        {"codebook_size": 51},
        {"grid": (3, 4, 4)},
        {"num_conditions": 4},
        {"mlp_ratio": 2.0},
        {"num_heads": 2},
        {"rope": False, "aimed": False},
        {"aimed": False},
        {"frame_conditions": False},
        {"swiglu": False},
        {"tied_head": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_weights_of_another_design_are_no_start(change: dict[str, Any]) -> None:
    """Some of them have equal names and shapes, but would compute something else."""
    known = replace(SMALL, frame_conditions=True)
    model = BlockTransformer(replace(known, name="next", **change))
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    name = next(iter(change))
    with pytest.raises(ValueError, match=f"^next cannot start from small: its {name} differs$"):
        fit_weights(model, BlockTransformer(known))
    assert all(weight.equal(before[name]) for name, weight in model.state_dict().items())


def test_ids_of_another_block_are_no_start() -> None:
    """The ids of a hybrid model begin with one per token of a block."""
    hybrid = TransformerConfig(
        name="hybrid", num_layers=2, width=32, num_heads=2, layout="hybrid", codebook_size=30,
        block_shape=(1, 1, 2), grid=(2, 2, 2), num_conditions=2, prefix_len=1, max_len=12,
    )  # fmt: skip
    known = BlockTransformer(hybrid)
    other = replace(hybrid, name="other", block_shape=(1, 2, 2))
    with pytest.raises(ValueError, match="its block_shape differs"):
        fit_weights(BlockTransformer(other), known)
    with pytest.raises(ValueError, match="its block_shape differs"):
        grown(known, replace(other, num_layers=3))


def test_a_longer_table_of_positions_is_a_start_where_none_is_used() -> None:
    known = trained(SMALL)
    model = BlockTransformer(replace(SMALL, max_len=1 + SMALL.max_len))
    fit_weights(model, known)
    assert all(map(torch.equal, model.state_dict().values(), known.state_dict().values()))


def test_a_model_with_more_conditions_computes_the_same_for_those_it_knows() -> None:
    config = replace(SMALL, aimed=True)
    small = trained(config)
    more = reconditioned(small, ("pull", "lift", "push"), ("up", "down"))
    assert more.config.num_conditions == 6
    layout, wider = sequence_layout(config), sequence_layout(more.config)
    tokens = torch.randint(0, 50, (1, *config.grid))
    pairs = {"push": 2, "pull": 0, "lift": None, "up": None}
    for name, index in pairs.items():
        known = config.actions.index(name) if name in config.actions else config.num_conditions - 1
        at = {n: i for i, n in enumerate((*more.config.actions, *more.config.keys))}[name]
        assert index is None or at == index
        with torch.inference_mode():
            ids = layout.input_ids(tokens, torch.tensor([[config.first_condition_id + known]]))
            new_ids = wider.input_ids(tokens, torch.tensor([[more.config.first_condition_id + at]]))
            torch.testing.assert_close(
                more.video_logits(more.features(new_ids, wider)),
                small.video_logits(small.features(ids, layout)),
            )


def test_conditions_of_latent_frames_begin_without_effect() -> None:
    small = trained(SMALL)
    config = replace(SMALL, frame_conditions=True, window=2)
    model = BlockTransformer(config)
    fit_weights(model, small)
    ids = ids_of(SMALL)
    with torch.inference_mode():
        torch.testing.assert_close(model(ids), small(ids))
        torch.testing.assert_close(grown(small, replace(config, num_layers=3))(ids), small(ids))
    with pytest.raises(ValueError, match="cannot start from"):
        fit_weights(BlockTransformer(SMALL), model)
