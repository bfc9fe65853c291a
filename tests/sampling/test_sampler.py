from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nbp_core.blocks.sequences import DecodeStep, sequence_layout
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import Size3
from nbp_core.packed.formats import choose_format
from nbp_core.sampling.sampler import Sampler
from nbp_core.transformer.model import BlockTransformer
from tests.support.models import build_transformer, transformer_config


class Watched(Sampler):
    """Notes how many threads each step was computed with."""

    threads: dict[int, set[int]]

    def _places(self, step: DecodeStep) -> Tensor:
        places = super()._places(step)
        self.threads.setdefault(len(places), set()).add(torch.get_num_threads())
        return places


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads_by_block(model: BlockTransformer, shape: Size3) -> dict[int, set[int]]:
    layout = sequence_layout(model.config, shape)
    watched = Watched(model, layout, SamplingConfig(), torch.Generator())
    watched.threads = {}
    conditions = torch.full((1, model.config.prefix_len), model.config.first_condition_id)
    tokens = torch.zeros((1, *layout.blocks.grid), dtype=torch.int64)
    for _ in watched.stream(tokens, 0, conditions):
        assert torch.get_num_threads() == 2
    return watched.threads


def test_beside_compiled_work_one_thread_is_enough(two_threads: None) -> None:
    model = build_transformer(transformer_config(grid=(2, 4, 4), block_shape=(1, 1, 4)))
    assert threads_by_block(model, (1, 1, 4)) == {1: {2}, 4: {2}}
    model.pack(choose_format("cpu"))
    count = 1 if model.is_compiled else 2
    assert threads_by_block(model, (1, 1, 4)) == {1: {count}, 4: {count}}
