"""How the quality of a long play changes: figures over time, one row per window of 17 frames.

Random keys are held from the first frames of real episodes. Each setting changes one thing:
temperature, the cache's window, whether the first latent frame stays in it as an anchor, the share
of wrong tokens in the first frame, or whether the arm is kept within its reach.
Shapes: N plays, K keys, T H W frames, C colour, t h w tokens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import format_block_shape
from nbp_core.data.arm_keys import ARM_KEYS
from nbp_core.data.key_frames import direction, latent_frames, reconstructed
from nbp_core.data.keys import FRAMES_PER_KEY, HeldKeys, KeyClip
from nbp_core.evaluation import metrics
from nbp_core.evaluation.classifier import ActionClassifier
from nbp_core.evaluation.features import FeatureNetwork, Features
from nbp_core.evaluation.frechet import frechet_distance
from nbp_core.experiments.experiment import Rows
from nbp_core.experiments.longer import STRIDE
from nbp_core.generation.pipeline import VideoPipeline
from nbp_core.generation.reach import Reach
from nbp_core.generation.records import Tokens
from nbp_core.media.drift import colour_drift, mean_sharpness
from nbp_core.media.files import Frames
from nbp_core.sampling.window import WindowSampler
from nbp_core.tokenizer.conv import StreamState
from nbp_core.tokenizer.interface import to_frames
from nbp_core.train.noise import noisy_tokens

KEYS_PER_WINDOW = STRIDE // FRAMES_PER_KEY
Progress = Callable[[int], object]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Changes to a play. None keeps the temperature of the options and the model's window."""

    temperature: float | None = None
    window: int | None = None
    has_anchor: bool = True
    wrong: float = 0.0
    """Largest share of wrong tokens in the first frame."""
    has_reach: bool = True
    """Whether keys that lead out of the arm's reach move nothing, as in a play."""


SETTINGS = {
    "as trained": Setting(),
    "no anchor": Setting(has_anchor=False),
    "window 3": Setting(window=3),
    "window 5": Setting(window=5),
    "temperature 0.3": Setting(temperature=0.3),
    "temperature 0.8": Setting(temperature=0.8),
    "temperature 1": Setting(temperature=1.0),
    "up to 20 % wrong tokens at first": Setting(wrong=0.2),
    "no reach": Setting(has_reach=False),
}
"""By name; each is a unit of work."""


@dataclass(frozen=True, kw_only=True)
class EndlessBench:
    """What all settings share: model, start episodes, number of keys, and the reader of keys."""

    pipeline: VideoPipeline
    reader: ActionClassifier
    episodes: Sequence[KeyClip]
    """Real episodes; each gives a start."""
    num_keys: int
    sampling: SamplingConfig
    networks: Sequence[FeatureNetwork] = ()
    """Networks for Frechet distances from each window to all windows of the real episodes."""

    @cached_property
    def references(self) -> list[Features]:
        """Each network's features of every window of the real episodes."""
        real = np.concatenate([_windows_of(clip.frames_THWC) for clip in self.episodes])
        return [network.features(real) for network in self.networks]

    def keys_NK(self, setting: Setting) -> list[list[str]]:
        """Random keys with an open grip, each held for some latent frames, as a play follows them.

        The keys pressed are the same for all settings.
        """
        held = [
            HeldKeys(np.random.default_rng([self.sampling.seed, number]))
            for number in range(len(self.episodes))
        ]
        pressed = [[one.next(ARM_KEYS)[0] for _ in range(self.num_keys)] for one in held]
        if not setting.has_reach:
            return pressed
        axes = self.pipeline.transformer.config.key_reach
        return [list(map(Reach(axes).follow, row)) for row in pressed]


def endless(bench: EndlessBench, name: str, on_key: Progress | None = None) -> Rows:
    """One row per window of one setting, after two rows for the first windows of the real episodes
    and of their reconstructions."""
    setting = SETTINGS[name]
    keys_NK = bench.keys_NK(setting)
    first_NHWC = np.stack([clip.frames_THWC[0] for clip in bench.episodes])
    real = np.stack([clip.frames_THWC[: STRIDE + 1] for clip in bench.episodes])
    pressed = [clip.keys[:KEYS_PER_WINDOW] for clip in bench.episodes]
    common = {
        "model": bench.pipeline.name,
        "block": name,
        "shape": format_block_shape(
            bench.sampling.block_shape or bench.pipeline.config.block_shape
        ),
        "clips": len(bench.episodes),
    }
    made = np.stack(
        [reconstructed(bench.pipeline.tokenizer, clip, bench.pipeline.device) for clip in real]
    )
    rows = [
        common | {"window": 0, "of": of} | _figures(bench, frames, first_NHWC, pressed)
        for of, frames in (("real clips", real), ("reconstructed clips", made))
    ]
    for number, (frames, tokens) in enumerate(_windows(bench, setting, keys_NK, on_key)):
        here = slice(number * KEYS_PER_WINDOW, (number + 1) * KEYS_PER_WINDOW)
        changes = float(np.mean([metrics.token_change_rate(clip) for clip in tokens]))
        rows.append(
            common
            | {"window": number + 1, "of": "generated clips", "to_frame": (number + 1) * STRIDE + 1}
            | _figures(bench, frames, first_NHWC, [keys[here] for keys in keys_NK])
            | {"token changes": changes}
        )
    return rows


def _figures(
    bench: EndlessBench,
    frames_NTHWC: Frames,
    first_NHWC: Frames,
    keys: Sequence[Sequence[str]],
) -> dict[str, Any]:
    """Figures of one window: fine detail, mean colour, the share of its keys that are read, and
    Frechet distances to real windows."""
    seen = np.concatenate([latent_frames(frames_THWC) for frames_THWC in frames_NTHWC])
    names = [direction(key) for row in keys for key in row]
    named = bench.reader.classify(seen) == bench.reader.indices(names)
    return {
        "sharpness": mean_sharpness(frames_NTHWC),
        "colour drift": colour_drift(frames_NTHWC, first_NHWC),
        "arm keys read right": float(named.mean()),
        **{
            network.name: frechet_distance(network.features(frames_NTHWC), reference)
            for network, reference in zip(bench.networks, bench.references, strict=True)
        },
    }


def _windows_of(frames_THWC: Frames) -> Frames:
    """All windows (N, 17, H, W, C) of a clip. Each begins with the last frame of the one before."""
    starts = range(0, len(frames_THWC) - STRIDE, STRIDE)
    return np.stack([frames_THWC[start : start + STRIDE + 1] for start in starts])


@torch.inference_mode()
def _windows(
    bench: EndlessBench,
    setting: Setting,
    keys_NK: Sequence[Sequence[str]],
    on_key: Progress | None,
) -> Iterator[tuple[Frames, Tokens]]:
    """(frames_NTHWC, tokens_Nthw) of each window; it begins with the last frame of the one before.

    Nothing is kept but the window."""
    pipeline = bench.pipeline
    first_Bhw = _starts(bench, setting)
    sampling = bench.sampling
    if setting.temperature is not None:
        sampling = replace(sampling, temperature=setting.temperature)
    rngs = [
        torch.Generator(pipeline.device).manual_seed(sampling.seed + clip)
        for clip in range(len(first_Bhw))
    ]
    sampler = WindowSampler(
        pipeline.transformer,
        first_Bhw[:, None],
        sampling,
        rngs,
        window=setting.window,
        has_anchor=setting.has_anchor,
    )
    state: StreamState = {}
    frames = deque([to_frames(pipeline.tokenizer.decode(first_Bhw[:, None], state))])
    tokens = [first_Bhw.cpu().numpy()]
    for number in range(bench.num_keys):
        ids = [pipeline.conditions.id(keys[number]) for keys in keys_NK]
        tokens_Bhw = sampler.next(torch.tensor(ids, device=first_Bhw.device))
        frames.append(to_frames(pipeline.tokenizer.decode(tokens_Bhw[:, None], state)))
        tokens.append(tokens_Bhw.cpu().numpy())
        if on_key is not None:
            on_key(1)
        if len(tokens) > KEYS_PER_WINDOW:
            whole = np.concatenate(frames, axis=1)
            yield whole, np.stack(tokens, axis=1)
            frames, tokens = deque([whole[:, -1:]]), tokens[-1:]


def _starts(bench: EndlessBench, setting: Setting) -> torch.Tensor:
    """The first frames' tokens (B, h, w)."""
    tokens = np.stack([bench.pipeline.tokenize(clip.frames_THWC[:1]) for clip in bench.episodes])
    if setting.wrong:
        levels = bench.pipeline.tokenizer.config.levels
        rng = np.random.default_rng(bench.sampling.seed)
        tokens = noisy_tokens(tokens, setting.wrong, levels, rng)
    return torch.from_numpy(tokens[:, 0]).to(bench.pipeline.device)
