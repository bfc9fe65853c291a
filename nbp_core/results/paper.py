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


TABLE1: Final = PaperTable(
    title="Speed and quality by model size",
    source=f"{PAPER}, table 1",
    setting=f"{_K600}; one A100, key/value cache, 20 epochs; speed includes tokenising both ways",
    rows=(
        SpeedRow(
            preset="XL", size="700M", method="NTP", block_shape=(1, 1, 1),
            fvd=37.4, steps=768, fps=0.80, seconds=15.04,
        ),
        SpeedRow(
            preset="XL", size="700M", method="NBP", block_shape=(1, 1, 16),
            fvd=33.6, steps=48, fps=8.89, seconds=1.35,
        ),
        SpeedRow(
            preset="XXL", size="1.2B", method="NTP", block_shape=(1, 1, 1),
            fvd=31.4, steps=768, fps=0.75,
        ),
        SpeedRow(
            preset="XXL", size="1.2B", method="NBP", block_shape=(1, 1, 16),
            fvd=28.6, steps=48, fps=6.70,
        ),
        SpeedRow(
            preset="3B", size="3B", method="NTP", block_shape=(1, 1, 1),
            fvd=29.0, steps=768, fps=0.60,
        ),
        SpeedRow(
            preset="3B", size="3B", method="NBP", block_shape=(1, 1, 16),
            fvd=26.5, steps=48, fps=4.29,
        ),
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
    setting="said of the method, without a figure",
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
    rows=(
        TokenizerRow(
            data=UCF, tokenizer="the paper's", rfvd=15.50, psnr=29.3, ssim=0.893, lpips=0.0648
        ),
        TokenizerRow(
            data=K600, tokenizer="the paper's", rfvd=6.73, psnr=31.3, ssim=0.944, lpips=0.0828
        ),
        TokenizerRow(
            data=UCF, tokenizer="OmniTokenizer", rfvd=42.0, psnr=30.3, ssim=0.910, lpips=0.0733
        ),
        TokenizerRow(
            data=K600, tokenizer="OmniTokenizer", rfvd=27.0, psnr=28.5, ssim=0.883, lpips=0.0945
        ),
    ),
)
