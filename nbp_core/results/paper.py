"""The figures of the paper (arXiv 2502.07737), as data. None of them was measured by this project.

A figure that the paper does not print, or prints only as a curve, is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from nbp_core.config.shapes import Size3

Method = Literal["NTP", "NBP"]
Row = TypeVar("Row")

PAPER: Final = "Ren, Ma, Sun and Wei, Next Block Prediction, arXiv 2502.07737 (2025)"
_K600 = "Kinetics-600, 5 frames given, 12 frames (768 tokens) predicted"


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeedRow:
    """A row of table 1. `preset` is the size's name here, `size` the paper's own."""

    preset: str
    size: str
    method: Method
    block_shape: Size3
    fvd: float
    steps: int
    fps: float
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleRow:
    """A row of table 2: quality on one data set, of next-block prediction or another method."""

    data: str
    method: str
    size: str = ""
    fvd: float
    steps: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class BlockRow:
    """Loss, quality and speed of one block shape."""

    block_shape: Size3
    fvd: float | None = None
    fps: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizerRow:
    """A row of table 7: how well a tokenizer reconstructs clips."""

    data: str
    tokenizer: str
    rfvd: float
    psnr: float
    ssim: float
    lpips: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperTable(Generic[Row]):
    """Rows of a table or figure, its number in the paper, and how they were measured."""

    title: str
    source: str
    setting: str
    rows: tuple[Row, ...]
    facts: tuple[str, ...] = ()
    """Statements of the paper that have no figure of their own."""


_SPEEDS: Final[tuple[tuple[str, str, Method, float, float, float | None], ...]] = (
    ("XL", "700M", "NTP", 37.4, 0.80, 15.04),
    ("XL", "700M", "NBP", 33.6, 8.89, 1.35),
    ("XXL", "1.2B", "NTP", 31.4, 0.75, None),
    ("XXL", "1.2B", "NBP", 28.6, 6.70, None),
    ("3B", "3B", "NTP", 29.0, 0.60, None),
    ("3B", "3B", "NBP", 26.5, 4.29, None),
)
"""Preset, size, method, FVD, frames per second and seconds of each row of table 1."""
TABLE1: Final = PaperTable(
    title="Speed and quality by model size",
    source=f"{PAPER}, table 1",
    setting=f"{_K600}; one A100, key/value cache, 20 epochs; speed includes tokenising both ways",
    rows=tuple(
        SpeedRow(
            preset=preset, size=size, method=method, fvd=fvd, fps=fps, seconds=seconds,
            block_shape=(1, 1, 1) if method == "NTP" else (1, 1, 16),
            steps=768 if method == "NTP" else 48,
        )
        for preset, size, method, fvd, fps, seconds in _SPEEDS
    ),
)  # fmt: skip

UCF: Final = "UCF-101"
K600: Final = "K600"

TABLE2: Final = PaperTable(
    title="Quality beside other methods",
    source=f"{PAPER}, table 2",
    setting=f"{UCF}: 1,280 tokens from a class name; {K600}: {_K600}; 128 x 128 pixels, 17 frames",
    rows=(
        SampleRow(data=UCF, method="NBP", size="700M", fvd=103.3, steps=95),
        SampleRow(data=UCF, method="NBP", size="1.2B", fvd=85.8, steps=95),
        SampleRow(data=UCF, method="NBP", size="3B", fvd=55.3, steps=95),
        SampleRow(data=K600, method="NBP", size="700M", fvd=25.5, steps=48),
        SampleRow(data=K600, method="NBP", size="1.2B", fvd=23.0, steps=48),
        SampleRow(data=K600, method="NBP", size="3B", fvd=19.5, steps=48),
        SampleRow(data=UCF, method="PAR-16x", fvd=103.4, steps=95),
        SampleRow(data=UCF, method="MAGVITv2-AR", fvd=109.0),
        SampleRow(data=UCF, method="OmniTokenizer", fvd=191.0),
        SampleRow(data=UCF, method="TATS", fvd=332.0),
        SampleRow(data=UCF, method="HPDM-L", fvd=66.3),
        SampleRow(data=UCF, method="MAGVIT", fvd=76.0),
        SampleRow(data=UCF, method="MAGVITv2", fvd=58.0),
    ),
    facts=("A clip of UCF-101 takes 95 steps: 16 of one token, then 79 of a row.",),
)

FIGURE5: Final[PaperTable[BlockRow]] = PaperTable(
    title="Validation loss by size of model",
    source=f"{PAPER}, figure 5",
    setting="models of 700M, 1.2B and 3B parameters",
    rows=(),
    facts=("Validation loss falls as models grow.",),
)

CONTINUED: Final[PaperTable[BlockRow]] = PaperTable(
    title="Next-block prediction from a next-token model",
    source=PAPER,
    setting="stated in the text; no figure is given",
    rows=(),
    facts=("A model trained for next tokens adapts to next blocks without a break.",),
)

FIGURE_6_7: Final = PaperTable(
    title="Validation loss, quality and speed by block shape",
    source=f"{PAPER}, figures 6 and 7",
    setting=f"{_K600}; a model trained for each block shape",
    rows=(
        BlockRow(block_shape=(1, 1, 1)),
        BlockRow(block_shape=(1, 1, 8)),
        BlockRow(block_shape=(1, 1, 16), fvd=25.5),
        BlockRow(block_shape=(1, 2, 16)),
        BlockRow(block_shape=(1, 4, 16)),
        BlockRow(block_shape=(1, 16, 16), fps=17.14),
    ),
    facts=(
        "Validation loss grows with the block.",
        "Quality is best at blocks of 16 tokens, a row.",
        "Speed grows up to blocks of 256 tokens, a whole latent frame, where quality falls.",
    ),
)

TABLE3: Final = PaperTable(
    title="Quality by block shape at equal length",
    source=f"{PAPER}, table 3",
    setting=_K600,
    rows=(
        BlockRow(block_shape=(1, 4, 4), fvd=33.4),
        BlockRow(block_shape=(2, 1, 8), fvd=29.2),
        BlockRow(block_shape=(1, 1, 16), fvd=25.5),
        BlockRow(block_shape=(2, 2, 2), fvd=32.7),
        BlockRow(block_shape=(1, 1, 8), fvd=25.7),
    ),
)

TABLE7: Final = PaperTable(
    title="How well the tokenizer gives clips back",
    source=f"{PAPER}, table 7",
    setting="clips of 17 frames at 128 x 128 pixels; 64,000 codes in the paper's tokenizer",
    rows=tuple(
        TokenizerRow(data=data, tokenizer=name, rfvd=rfvd, psnr=psnr, ssim=ssim, lpips=lpips)
        for data, name, rfvd, psnr, ssim, lpips in (
            (UCF, "the paper's", 15.50, 29.3, 0.893, 0.0648),
            (K600, "the paper's", 6.73, 31.3, 0.944, 0.0828),
            (UCF, "OmniTokenizer", 42.0, 30.3, 0.910, 0.0733),
            (K600, "OmniTokenizer", 27.0, 28.5, 0.883, 0.0945),
        )
    ),
)
