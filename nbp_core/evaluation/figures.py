"""Quality figures of clips, each with its name, clips, reference and number of clips.

Input: groups of clips (real, reconstructed, generated). Output: Figures. Loads no files.
Shapes: N clips, M others, T H W pixels, t h w tokens, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nbp_core.evaluation import metrics
from nbp_core.evaluation.classifier import ActionClassifier
from nbp_core.evaluation.frechet import Features, frechet_distance
from nbp_core.generation.records import Tokens
from nbp_core.media.fidelity import MOST_PSNR, fidelity
from nbp_core.media.files import Frames

Better = Literal["higher", "lower", "like real"]
GREY = "grey levels"
LEAST_CLIPS = 4
"""Least number of real clips, held-out ones and reference together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """One measured value."""

    metric: str
    of: str
    """The measured clips, in words."""
    value: float
    clips: int
    """Number of measured clips; for a Frechet distance, those of one fold."""
    against: str | None = None
    """The reference, in words."""
    deviation: float | None = None
    """Standard deviation over the folds, where there are several."""
    unit: str | None = None
    better: Better

    def to_row(self) -> dict[str, Any]:
        """The figure as a row of a results file; fields that are None are left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Clips of one origin with their actions; `looks` has the look of each real clip."""

    name: str
    frames_NTHWC: Frames
    actions: list[str]
    looks: list[str] | None = None
    tokens_Nthw: Tokens | None = None

    def __len__(self) -> int:
        return len(self.actions)

    def rows(self, rows: NDArray[np.int64]) -> Clips:
        """The clips with these indices."""
        return Clips(
            name=self.name,
            frames_NTHWC=self.frames_NTHWC[rows],
            actions=[self.actions[i] for i in rows],
            looks=None if self.looks is None else [self.looks[i] for i in rows],
            tokens_Nthw=None if self.tokens_Nthw is None else self.tokens_Nthw[rows],
        )


def hold_out(real: Clips, count: int) -> tuple[Clips, Clips]:
    """(held-out clips, evenly spread over the real ones and at most half; the rest as reference).

    Raises ValueError for fewer than four real clips.
    """
    if len(real) < LEAST_CLIPS:
        raise ValueError(f"there are {len(real)} real clips; an evaluation needs at least four")
    number = min(count, len(real) // 2)
    chosen = np.linspace(0, len(real) - 1, number).round().astype(int)
    return real.rows(chosen), real.rows(np.setdiff1d(np.arange(len(real)), chosen))


def fidelity_figures(real: Clips, made: Clips) -> list[Figure]:
    """PSNR and SSIM of reconstructed clips: for all and, if there are several looks, for each."""
    found = [fidelity(a, b) for a, b in zip(real.frames_NTHWC, made.frames_NTHWC, strict=True)]
    looks = real.looks or [""] * len(real)
    domains = {made.name: found}
    if len(set(looks)) > 1:
        for look in sorted(set(looks)):
            chosen = [f for f, name in zip(found, looks, strict=True) if name == look]
            domains[f"{made.name}, {look or 'no'} look"] = chosen
    figures = []
    for of, chosen in domains.items():
        psnr = float(np.mean([min(f.psnr, MOST_PSNR) for f in chosen]))
        ssim = float(np.mean([f.ssim for f in chosen]))
        count = len(chosen)
        figures += [
            Figure(metric="PSNR", of=of, value=psnr, clips=count, unit="dB", better="higher"),
            Figure(metric="SSIM", of=of, value=ssim, clips=count, better="higher"),
        ]
    return figures


def distance_figure(
    name: str, of: str, features_ND: Features, reference_MD: Features, size: int
) -> Figure:
    """Frechet distance of clips to the reference. More than `size` clips are cut into folds of it.

    The distance is larger for fewer clips, so only distances over equally many are comparable.
    """
    folds = [features_ND[i : i + size] for i in range(0, len(features_ND) - size + 1, size)]
    values = [frechet_distance(fold, reference_MD) for fold in folds]
    return Figure(
        metric=name,
        of=of,
        value=float(np.mean(values)),
        clips=size,
        deviation=float(np.std(values)) if len(values) > 1 else None,
        against=f"{len(reference_MD)} other real clips",
        better="lower",
    )


def accuracy_figure(classifier: ActionClassifier, clips: Clips) -> Figure:
    """The share of clips whose action the classifier recognises."""
    return Figure(
        metric="action accuracy",
        of=clips.name,
        value=classifier.accuracy(clips.frames_NTHWC, clips.actions),
        clips=len(clips),
        against=f"classifier {classifier.config.name}",
        better="higher",
    )


def stillness_figures(clips: Clips, still: Sequence[metrics.Mask], token_side: int) -> list[Figure]:
    """Flicker of pixels and changes of tokens where clip i should not move (`still[i]`, (H, W)),
    and changes of all tokens. Clips without still places are left out. token_side: in pixels."""
    flickers = [
        metrics.flicker(frames, mask)
        for frames, mask in zip(clips.frames_NTHWC, still, strict=True)
    ]
    figures = _mean("flicker at still places", clips.name, flickers, "lower", f"{GREY} per frame")
    if clips.tokens_Nthw is None:
        return figures
    rates = [
        metrics.token_change_rate(tokens, metrics.still_tokens(mask, token_side))
        for tokens, mask in zip(clips.tokens_Nthw, still, strict=True)
    ]
    everywhere = [metrics.token_change_rate(tokens) for tokens in clips.tokens_Nthw]
    figures += _mean("token changes at still places", clips.name, rates, "lower")
    return figures + _mean("token changes", clips.name, everywhere, "like real")


def _mean(
    metric: str, of: str, values: Sequence[float], better: Better, unit: str | None = None
) -> list[Figure]:
    known = [value for value in values if not np.isnan(value)]
    if not known:
        return []
    mean, count = float(np.mean(known)), len(known)
    return [Figure(metric=metric, of=of, value=mean, clips=count, unit=unit, better=better)]


def variety_figures(clips: Clips, train_MD: metrics.Small | None) -> list[Figure]:
    """The differences between clips of an action, and distances to the nearest training clips.

    Compare them with the same figures of real clips that no model was trained on.
    """
    small = metrics.small(clips.frames_NTHWC)
    found = {"difference between clips of an action": metrics.diversity(small, clips.actions)}
    against = None
    if train_MD is not None:
        nearest = metrics.nearest_distance(small, train_MD)
        against = f"{len(train_MD)} training clips"
        found["distance to the nearest training clip, mean"] = float(nearest.mean())
        found["distance to the nearest training clip, least"] = float(nearest.min())
    return [
        Figure(
            metric=metric,
            of=clips.name,
            value=value,
            clips=len(clips),
            against=against if "nearest" in metric else None,
            unit=GREY,
            better="like real",
        )
        for metric, value in found.items()
        if not np.isnan(value)
    ]
