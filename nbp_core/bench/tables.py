"""The tables and sentences that `bench` prints: steps, whole clips, losses."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from nbp_core.bench.against.figures import Against
from nbp_core.bench.floor import Machine, StepFigures, floor_of
from nbp_core.bench.format_loss import FormatLoss

TIMED_CLIPS = 3


@dataclass(frozen=True)
class EndToEnd:
    """Median times of whole clips, tokenizer included, from an action or five frames."""

    model: str
    weights: str
    weight_format: str
    block: str
    seconds: float
    first_frame_s: float
    frames_s: float
    """New frames per second."""


@dataclass(frozen=True)
class Timed:
    """Figures of one model in one weight format, measured in a process of its own."""

    figures: list[StepFigures]
    load_s: float
    """Seconds until the weights are packed; random weights are drawn instead of read."""
    peak_bytes: int

    @property
    def memory_and_load(self) -> dict[str, float]:
        return {"peak_bytes": self.peak_bytes, "load_s": self.load_s}


def loss_words(loss: FormatLoss) -> str:
    """A sentence on what a weight format costs in quality."""
    return (
        f"{loss.weight_format} on {loss.clips} clips: {loss.loss:.4f} nats per token, in float32"
        f" {loss.plain_loss:.4f}; logits differ by {loss.logit_error:.1%}, the likeliest token is"
        f" the same at {loss.same_best:.1%} of the positions"
    )


OTHERS = {
    "transformers": "Hugging Face transformers",
    "released": "the released procedure in plain PyTorch",
}
"""The other programs of `--against`."""


def against_words(found: Against) -> str:
    """A sentence on the comparison with another program."""
    return (
        f"{found.model}, block {found.block}: {found.our_ms:.1f} ms per step here"
        f" ({found.our_format}), {found.their_ms:.1f} ms in {OTHERS[found.other]}"
        f" ({found.their_dtype}): here {found.ratio:.2f} times as fast"
    )


def step_rows(timed: Timed, machine: Machine) -> list[dict[str, Any]]:
    """The steps of one model in one weight format, with their floors at the rates of a machine."""
    return [
        {
            **asdict(step),
            **asdict(floor := floor_of(step, machine)),
            "ratio": step.step_ms / floor.floor_ms,
            "total_s": step.total_s,
            **timed.memory_and_load,
        }
        for step in timed.figures
    ]


def step_table(timed: Timed, machine: Machine) -> Table:
    """The table of these steps."""
    figures, first = timed.figures, timed.figures[0]
    table = Table(
        title=f"{first.model} (weights {first.weights}) in {first.weight_format}, model only, "
        f"peak {timed.peak_bytes / 1e9:.2f} GB, ready after {timed.load_s:.1f} s"
    )
    for name in ("protocol", "block", "steps", "prefill ms", "step ms", "floor ms", "x floor",
                 "bound by", "whole s", "tokens/s"):  # fmt: skip
        table.add_column(name, justify="right")
    for f in figures:
        floor = floor_of(f, machine)
        table.add_row(
            f.protocol, f.block, f"{f.num_steps:,}", f"{f.prefill_ms:.1f}", f"{f.step_ms:.2f}",
            f"{floor.floor_ms:.2f}", f"{f.step_ms / floor.floor_ms:.2f}", floor.bound,
            f"{f.total_s:.2f}", f"{f.tokens_s:,.0f}",
        )  # fmt: skip
    return table


def clip_table(clips: list[EndToEnd]) -> Table:
    """The table of whole clips of every model."""
    table = Table(title=f"Whole clips, with tokenizer (median of {TIMED_CLIPS})")
    for name in ("model", "block", "clip s", "first frame s", "frames/s"):
        table.add_column(name, justify="right")
    for c in clips:
        table.add_row(
            f"{c.model} ({c.weights}) in {c.weight_format}", c.block, f"{c.seconds:.2f}",
            f"{c.first_frame_s:.2f}", f"{c.frames_s:.1f}",
        )  # fmt: skip
    return table
