"""A choice on the Attention tab with its clip opened: maps, frames, words and files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from app.attention import clips
from app.attention.clips import Clip
from app.attention.look import look_row, look_view
from app.attention.map import heads_view, map_view, pane
from app.attention.opened import Opened, Views
from app.parts.controls import DEFAULT_BLOCK
from app.parts.pictures import block_name
from app.session import Session
from nbp_core.attention_maps.figure import WRITERS
from nbp_core.attention_maps.pictures import Head, parse_head
from nbp_core.config.shapes import Size3, format_block_shape, parse_block_shape

TOKEN: Size3 = (1, 1, 1)
NO_PLACE = -1


@dataclass(frozen=True, slots=True)
class Choice:
    """The values of the page's controls, in the order of its inputs."""

    key: str | None
    upload: str | None
    crop: float
    """Which square of an upload, from 0 (left or top) to 1."""
    model: str | None
    beside: bool
    action: str = ""
    block: str = ""
    layer: int = 1
    """Counted from 1, as people do."""
    head: str = "mean"
    place: int = NO_PLACE
    """Grid place of the token whose query is shown. NO_PLACE: the middle of the last frame."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A choice with its clip opened; of two, the second is there to compare with."""

    clip: Clip
    opened: Sequence[Opened]
    layer: int
    """Counted from 0."""
    head: Head
    place: int

    @property
    def titles(self) -> list[str]:
        return [block_words(one.view.block_shape) for one in self.opened]

    def has(self, layer: int, head: str) -> bool:
        """Whether the model has a layer, counted from 1, and a head of it."""
        view, one = self.opened[0].view, parse_head(head)
        return layer <= view.num_layers and (isinstance(one, str) or one < view.num_heads)

    def maps(self) -> dict[str, Any]:
        """The maps, as the page draws them."""
        panes = []
        for one, title in zip(self.opened, self.titles, strict=True):
            weights_LL = one.view.map(self.layer, self.head)
            panes.append(pane(one.view, weights_LL, title, one.view.query_of(self.place)))
        return map_view(panes, self.layer, self.head)

    def looks(self) -> dict[str, Any]:
        """The frames and where the query looks, as the page draws them."""
        num_latents = self.opened[0].view.grid[0]
        frames_THWC = self.clip.frames_THWC
        rows = [
            look_row(one.view, self.layer, self.head, self.place, title, len(frames_THWC))
            for one, title in zip(self.opened, self.titles, strict=True)
        ]
        return look_view(frames_THWC, num_latents, rows)

    def picked(self, data: dict[str, Any]) -> int:
        """The place of the token that was clicked, or that the clicked row makes."""
        view = self.opened[data["pane"]].view
        if "place" in data:
            return int(np.ravel_multi_index(data["place"], view.grid))
        place = int(view.targets_L[data["row"]])
        if place < 0:
            raise ValueError("This position predicts no token. Choose a row further down.")
        return place

    def heads(self) -> dict[str, Any]:
        """All heads small."""
        return heads_view(self.opened[0].thumbnails)

    def measured(self, seconds: float) -> str:
        """The line that says what was measured, on what and with which weights."""
        forward = " and ".join(f"{one.seconds:.2f} s" for one in self.opened)
        kind = "generated here" if self.clip.tokens_thw is not None else "tokenized here"
        made = "" if self.clip.block_shape is None else block_words(self.clip.block_shape)
        context = f"with the action {self.clip.action}" if self.clip.action else "without an action"
        return (
            f"Measured here: softmax weights of layer {self.layer + 1}, {head_words(self.head)},"
            f" over {self.opened[0].view.length:,} positions, from one masked forward pass"
            f" ({forward}; drawing {seconds:.2f} s) on {self.opened[0].weights}. The clip:"
            f" {self.clip.title}, {kind}{f', made by {made}' if made else ''}, read {context}."
        )

    def report(self) -> dict[str, Any]:
        """The settings of the first map, which its files carry."""
        view = self.opened[0].view
        return {
            "clip": self.clip.title,
            "measured_on": self.opened[0].weights,
            "action": self.clip.action,
            "block": format_block_shape(view.block_shape),
            "layer": self.layer + 1,
            "head": str(self.head + 1) if isinstance(self.head, int) else self.head,
            "positions": view.length,
        }

    def write(self, folder: Path) -> dict[str, Path]:
        """The first map as figures and exact weights, by suffix, each with the report inside."""
        view = self.opened[0].view
        report = self.report()
        target = Path(tempfile.mkdtemp(dir=folder))
        stem = "attention_{block}_layer{layer}_head-{head}".format(**report)
        weights_LL = view.map(self.layer, self.head)
        paths = {suffix: target / f"{stem}{suffix}" for suffix in WRITERS}
        for suffix, path in paths.items():
            WRITERS[suffix](path, weights_LL, view.positions(), json.dumps(report))
        return paths


def open_choice(session: Session, views: Views, choice: Choice) -> Shown:
    """Opens what was chosen. Raises ValueError, one sentence, when that cannot be done."""
    clip = clips.find(session, choice.key, choice.model, choice.upload, choice.crop)
    clip = replace(clip, action=choice.action or None)
    return open_clip(views, clip, parse_block_shape(choice.block), choice)


def open_clip(views: Views, clip: Clip, shape: Size3, choice: Choice) -> Shown:
    """Opens a clip in blocks of a shape, and of another if two are to be compared."""
    opened = [views.open(clip, shape)]
    if choice.beside:
        opened.append(views.open(clip, DEFAULT_BLOCK if shape == TOKEN else TOKEN))
    grid = opened[0].view.grid
    place = choice.place
    if not 0 <= place < int(np.prod(grid)):
        place = int(np.ravel_multi_index((grid[0] - 1, grid[1] // 2, grid[2] // 2), grid))
    return Shown(clip, opened, choice.layer - 1, parse_head(choice.head), place)


def block_words(shape: Size3) -> str:
    """'row 1x1x16'."""
    return f"{block_name(shape)} {format_block_shape(shape)}"


def head_words(head: Head) -> str:
    """'head 2', 'mean over its heads'."""
    if isinstance(head, int):
        return f"head {head + 1}"
    return "mean over its heads" if head == "mean" else "maximum over its heads"
