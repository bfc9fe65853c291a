"""A generation under way leaves the rest of the process alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.sampling import SamplingConfig
from nbp_core.packed.formats import choose_format
from nbp_core.packed.model import pack
from nbp_core.sampling.sampler import Sampler
from nbp_core.sampling.steps import decoder_of
from tests.support.models import build_transformer, transformer_config


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("method", ["paper", "shared-noise"])
def test_a_thread_that_first_computes_during_a_step_has_all_threads(
    two_threads: None, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when a model is loaded while a clip is made."""
    model = build_transformer(transformer_config(grid=(2, 4, 4), block_shape=(1, 1, 4)))
    packed = pack(model, choose_format("cpu"))
    found: set[int] = set()
    embed = packed.embed

    def spied(*arguments: torch.Tensor) -> torch.Tensor:
        with ThreadPoolExecutor(1) as pool:
            found.add(pool.submit(torch.get_num_threads).result())
        return embed(*arguments)

    monkeypatch.setattr(packed, "embed", spied)
    layout, sampling = sequence_layout(packed.config), SamplingConfig(method=method)
    conditions = torch.full((1, 1), packed.config.first_condition_id)
    tokens = torch.zeros((1, *layout.blocks.grid), dtype=torch.int64)
    sampler = Sampler(decoder_of(packed), layout, sampling, [torch.Generator()])
    for _ in sampler.stream(tokens, 0, conditions):
        assert torch.get_num_threads() == 2
    assert found == {2}
