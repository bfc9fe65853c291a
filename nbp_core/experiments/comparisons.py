"""The models that small versions of the paper's experiments compare, and their block shapes.

Pure data. Arms with equal names are one model, which several experiments may use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nbp_core.config.shapes import FIGURE6_SHAPES, TABLE3_SHAPES, Size3, format_block_shape
from nbp_core.experiments.arms import ROW, Arm

TOKEN: Size3 = (1, 1, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """An arm measured in blocks of one shape, and the unit it is compared with."""

    arm: Arm
    shape: Size3
    against: Unit | None = None

    @property
    def name(self) -> str:
        """The name in its rows."""
        return f"{self.arm.name}, {format_block_shape(self.shape)}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """A figure or table of the paper, or a question of ours."""

    title: str
    units: Sequence[Unit]


def _fixed(shape: Size3, size: str = "M") -> Unit:
    """A model trained for one block shape."""
    name = f"{format_block_shape(shape)}-{size}"
    return Unit(arm=Arm(name=name, shape=shape, size=size), shape=shape)


def _against(unit: Unit, other: Unit) -> Unit:
    return Unit(arm=unit.arm, shape=unit.shape, against=other)


_ROW = _fixed(ROW)
_OUR_ROW = Unit(arm=Arm(name="ours-1x1x16-M", layout="elastic"), shape=ROW)
_OUR_HALF = Arm(name="ours-1x1x1-M-half", layout="elastic", shape=TOKEN, share=0.5)
_CONTINUED = Arm(name="ours-1x1x16-M-continued", layout="elastic", share=0.5, after=_OUR_HALF)
_ELASTIC = Arm(name="elastic-M", layout="elastic", shapes=FIGURE6_SHAPES)

COMPARISONS = {
    "trained-blocks": Comparison(
        title="Block sizes, a model trained for each (the paper's figures 6 and 7)",
        units=[_ROW, *(_against(_fixed(s), _ROW) for s in FIGURE6_SHAPES if s != ROW)],
    ),
    "pretrained": Comparison(
        title="Next-token training for half of the tokens, then next-block, against all next-block",
        units=[_OUR_ROW, Unit(arm=_CONTINUED, shape=ROW, against=_OUR_ROW)],
    ),
    "elastic": Comparison(
        title="One elastic model against a model for rows alone",
        units=[
            _OUR_ROW,
            Unit(arm=_ELASTIC, shape=ROW, against=_OUR_ROW),
            _against(_ROW, _OUR_ROW),
        ],
    ),
    "sizes": Comparison(
        title="Sizes of models (the paper's figure 5)",
        units=[_ROW, *(_against(_fixed(ROW, size), _ROW) for size in ("S", "L"))],
    ),
    "methods": Comparison(
        title="Next-token against next-block prediction at two sizes (the paper's table 1)",
        units=[
            unit
            for size in ("S", "M")
            for unit in (_fixed(TOKEN, size), _against(_fixed(ROW, size), _fixed(TOKEN, size)))
        ],
    ),
    "trained-shapes": Comparison(
        title="Block shapes, a model trained for each (the paper's table 3)",
        units=[
            _ROW,
            _fixed((1, 1, 8)),
            *(
                _against(_fixed(s), _ROW if s[0] * s[1] * s[2] == 16 else _fixed((1, 1, 8)))
                for s in TABLE3_SHAPES
                if s not in (ROW, (1, 1, 8))
            ),
        ],
    ),
}
"""By name, for the verb `experiment`; first those whose models most others use."""
