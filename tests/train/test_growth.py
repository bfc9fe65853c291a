"""A grown model computes what the smaller one does, and every part of it can learn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.models import TransformerConfig
from nbp_core.config.presets import elastic
from nbp_core.train.growth import grown
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
        ({"codebook_size": 51}, "its codebook_size is another"),
        ({"num_layers": 1}, "not larger"),
        ({"num_heads": 6}, "must be as wide"),
        ({"rms_norm": False}, "its rms_norm is another"),
        ({"aimed": False}, "queries are aimed"),
    ],
)
def test_what_cannot_grow_is_told(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        grown(BlockTransformer(SMALL), replace(LARGE, **change))
