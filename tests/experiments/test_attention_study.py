"""Shares of attention by what a key is to a query, and stripes, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbp_core.attention_maps.view import look_into
from nbp_core.blocks.sequences import SequenceLayout, sequence_layout
from nbp_core.config.shapes import LayoutKind, Size3
from nbp_core.experiments.attention_study import PARTS, STRIPE_LENGTH, Study, study_clip
from tests.support.models import CODES, build_transformer, transformer_config


def layout_of(kind: LayoutKind = "elastic", shape: Size3 = (1, 1, 4)) -> SequenceLayout:
    return sequence_layout(transformer_config(kind, grid=(3, 4, 4), block_shape=shape), shape)


def part_of(layout: SequenceLayout, query: int, key: int) -> str:
    """As PARTS says, a key at a time."""
    if key < layout.prefix_len:
        return "condition"
    if layout.kind != "plain" and key == layout.prefix_len:
        return "BOV"
    if layout.special_L[key]:
        return "middle tokens"
    target, place = int(layout.target_place_L[query]), int(layout.place_L[key])
    if place % 16 == target % 16 and place // 16 < target // 16:
        return "same place, earlier frames"
    behind = int(layout.segment_L[query] - layout.segment_L[key])
    if behind <= 1:
        return ("own block", "block before")[behind]
    return "rest of the frame" if place // 16 == target // 16 else "other tokens"


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("elastic", (1, 1, 4)), ("elastic", (1, 1, 1)), ("elastic", (1, 4, 4)), ("plain", (1, 1, 4))],
)
def test_every_key_a_query_sees_is_one_part_of_what_it_sees(kind: LayoutKind, shape: Size3) -> None:
    layout = layout_of(kind, shape)
    study = Study(layout)
    assert len(study.queries_Q) == 32  # those of the second and the third frame
    even = dict.fromkeys(PARTS, 0.0)
    for row, query in enumerate(study.queries_Q.tolist()):
        seen = torch.nonzero(layout.mask_LL[query]).flatten().tolist()
        for key in range(layout.length):
            found = int(study.parts_QL[row, key])
            assert found == (PARTS.index(part_of(layout, query, key)) if key in seen else -1)
            if key in seen:
                even[PARTS[found]] += 1 / len(seen) / 32
    np.testing.assert_allclose(study.even(), [even[part] for part in PARTS], rtol=1e-5)
    assert study.even().sum() == pytest.approx(1)


def test_the_shares_of_every_head_add_up_to_one() -> None:
    config = transformer_config(grid=(3, 4, 4), block_shape=(1, 1, 4))
    layout = sequence_layout(config)
    tokens = torch.arange(48).view(1, 3, 4, 4) % CODES
    view = look_into(
        build_transformer(config), layout, tokens, torch.tensor([[config.first_condition_id]])
    )
    found = study_clip(view, Study(layout))
    assert len(found) == 4
    for shares in found:
        assert shares.parts_P.sum() == pytest.approx(1, abs=1e-5)
        assert 0 <= shares.stripe_weight <= 1
    assert len({shares.parts_P.tobytes() for shares in found}) == 4


def test_a_key_that_most_later_queries_look_at_is_a_stripe() -> None:
    layout = layout_of()
    study = Study(layout)
    even = study.seen_QL / study.num_seen_Q[:, None]
    assert study.of(even).stripes == 0
    key = layout.prefix_len + 2  # a token of the first block: all these queries come later
    striped = 0.5 * even
    striped[:, key] += 0.5
    found = study.of(striped)
    assert found.stripes == 1
    assert found.stripe_weight == pytest.approx(float(striped[:, key].mean()))
    half = striped.clone()
    half[: len(half) // 2 + 1] = even[: len(half) // 2 + 1]
    assert study.of(half).stripes == 0
    condition = 0.5 * even
    condition[:, 0] += 0.5
    assert study.of(condition).stripes == 0  # conditions are told by their own share


def test_keys_that_few_queries_come_after_make_no_stripe() -> None:
    layout = layout_of()
    study = Study(layout)
    late = int(torch.nonzero(layout.segment_L == layout.segment_L[-1] - 1).flatten()[0])
    weights = torch.zeros_like(study.seen_QL, dtype=torch.float32)
    weights[:, 0] = 1
    weights[study.later_QL[:, late]] = 0
    weights[study.later_QL[:, late], late] = 1
    assert 0 < study.later_QL[:, late].sum() < min(STRIPE_LENGTH, 16)
    assert study.of(weights).stripes == 0
