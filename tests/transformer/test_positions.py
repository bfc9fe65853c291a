"""Aimed queries look from a moved place, and only for the condition they were aimed for."""

from __future__ import annotations

import torch

from nbp_core.transformer.positions import (
    AIM_SCALE,
    Aim,
    aimed,
    rotary_angles,
    rotation_of,
    targets_of,
)

GRID = (2, 4, 6)
PLACES = torch.tensor([-1, *range(48)])
ANGLES = rotary_angles(PLACES, GRID, 32)
KEYS = rotation_of(ANGLES, ANGLES, torch.float32)


def looks_from(map_23: list[list[float]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of queries under condition 1 of 2, for the second of two heads."""
    still, aim = (Aim(num_conditions=2, num_heads=2) for _ in range(2))
    with torch.no_grad():
        aim.maps[1, 1] = torch.tensor(map_23) / AIM_SCALE
    targets = targets_of(ANGLES, PLACES, GRID)
    maps, conditions = torch.stack([still.maps, aim.maps]), torch.tensor([[0], [1]])
    unmoved, rotation = aimed(maps, targets, KEYS, conditions)
    torch.testing.assert_close(rotation.cos, aim(targets, KEYS, conditions).cos)
    torch.testing.assert_close(unmoved.cos, KEYS.cos.expand_as(unmoved.cos))
    for batch, head in ((0, 0), (0, 1), (1, 0)):
        torch.testing.assert_close(rotation.cos[0, batch, head], KEYS.cos[0, 0, 0])
    torch.testing.assert_close(rotation.sin[1], KEYS.sin[1].expand(2, 2, -1, -1))
    return rotation.cos[0, 1, 1], rotation.sin[0, 1, 1]


def test_a_pan_looks_from_the_place_beside() -> None:
    cos, sin = looks_from([[0, 0, 0], [0, 0, 1]])
    places = torch.tensor([p for p in range(48) if p % 6 < 5])
    torch.testing.assert_close(cos[1 + places], KEYS.cos[0, 0, 0, 2 + places])
    torch.testing.assert_close(sin[1 + places], KEYS.sin[0, 0, 0, 2 + places])
    torch.testing.assert_close(cos[0], KEYS.cos[0, 0, 0, 0])  # the prefix has no place


def test_a_zoom_looks_from_nearer_the_middle() -> None:
    """Twice as far from the middle: one and a half places are added to one and a half."""
    cos, _ = looks_from([[2, 0, 0], [0, 3, 0]])
    at = {(y, x): 1 + y * 6 + x for y in range(4) for x in range(6)}
    half = ANGLES.shape[1] // 2
    frequency = torch.logspace(torch.log2(torch.tensor(torch.pi / 2)).item(), -4, 6, base=2.0)
    torch.testing.assert_close(cos[at[0, 0], 4:10], torch.cos(-1.5 * frequency))
    torch.testing.assert_close(cos[at[3, 5], 10:half], torch.cos(7.5 * frequency))
