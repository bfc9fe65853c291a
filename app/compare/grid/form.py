"""What varies in a grid, as typed, and the requests that come of it. Knows no Gradio."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal

from app.clips.request import Request
from app.compare.run import check_clip
from app.parts.pictures import block_name
from nbp_core.config.shapes import format_block_shape, parse_block_shape
from nbp_core.generation.request import MAX_BATCH

if TYPE_CHECKING:
    from app.session import Session

Vary = Literal["seed", "block", "temperature", "model"]
LEAST: Final = 2
MOST: Final = MAX_BATCH
"""Numbers of clips in a grid."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One clip of a grid: what makes it, and what tells it from the others."""

    request: Request
    caption: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Varied:
    """The setting that varies and its values; only those of the chosen setting are read."""

    vary: Vary
    num_seeds: int
    blocks: Sequence[str]
    temperatures: str
    models: Sequence[str]


def cells_of(session: Session, varied: Varied, request: Request) -> tuple[Cell, ...]:
    """The cells of a grid; `request` has the settings that all share.

    Raises ValueError, one sentence, for too few or too many values, and for one that its model
    cannot fulfil.
    """
    makers = {"seed": _seeds, "block": _blocks, "temperature": _temperatures, "model": _models}
    if varied.vary not in makers:
        raise ValueError(f"A grid varies one of {', '.join(makers)}, not {varied.vary!r}.")
    cells = tuple(makers[varied.vary](varied, request))
    if not LEAST <= len(cells) <= MOST:
        raise ValueError(f"A grid has {LEAST} to {MOST} clips, not {len(cells)}.")
    for cell in cells:
        assert cell.request.sampling.block_shape is not None, "the form has a block"
        check_clip(session, cell.request, cell.request.sampling.block_shape)
    return cells


def _seeds(varied: Varied, request: Request) -> Iterator[Cell]:
    if not isinstance(varied.num_seeds, int | float) or not LEAST <= varied.num_seeds <= MOST:
        raise ValueError(f"A grid has {LEAST} to {MOST} clips, not {varied.num_seeds or 0}.")
    for number in range(int(varied.num_seeds)):
        seeded = request.with_seed_after(number)
        yield Cell(request=seeded, caption=f"seed {seeded.sampling.seed}")


def _blocks(varied: Varied, request: Request) -> Iterator[Cell]:
    for text in dict.fromkeys(varied.blocks):
        shape = parse_block_shape(text)
        name = f"{block_name(shape)} {format_block_shape(shape)}"
        yield _cell(request, name, block_shape=shape)


def _temperatures(varied: Varied, request: Request) -> Iterator[Cell]:
    for number in read_numbers(varied.temperatures):
        yield _cell(request, f"temperature {number:g}", temperature=number)


def _models(varied: Varied, request: Request) -> Iterator[Cell]:
    for name in dict.fromkeys(varied.models):
        yield Cell(request=replace(request, model=name), caption=f"model {name}")


def _cell(request: Request, caption: str, **sampling: Any) -> Cell:
    changed = replace(request.sampling, **sampling)
    return Cell(request=replace(request, sampling=changed), caption=caption)


def read_numbers(text: str | None) -> list[float]:
    """'0.4, 0.7 1' as numbers, each once. Raises ValueError, one sentence, for anything else."""
    try:
        return list(dict.fromkeys(float(part) for part in re.split(r"[\s,;]+", text or "") if part))
    except ValueError:
        raise ValueError(
            f"Temperatures are numbers with commas between them, such as 0.4, 0.7, 1, not {text!r}."
        ) from None
