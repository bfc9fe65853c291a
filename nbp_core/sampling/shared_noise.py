"""Ways to draw the tokens of a block besides the paper's, whose tokens know nothing of each other.

Comes in: logits_BSV and the places of the S tokens. Goes out: tokens_BS. Temperature, top-k and
top-p are those of the SamplingConfig; its `method` names one of these.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nbp_core.config.sampling import SamplingConfig
from nbp_core.device import has_tiles, has_vectors
from nbp_core.sampling.filters import Scratch, filter_top_k, filter_top_p, sample

Draw = Callable[[Tensor, Tensor], Tensor]

ENTROPY_BASE = 0.8
"""Temperature falls by the base to the power of (scale / entropy in nats): at scale 1 by a fifth at
1 nat, by nine tenths at 0.1."""
LEAST_SHARE = 1e-3
"""Of the temperature: by then a token is certain, and less would divide logits by nothing."""
UNFILTERED = SamplingConfig(top_k=2**31, top_p=1.0)


def drawing(
    config: SamplingConfig, rng: torch.Generator, levels: tuple[int, ...], num_places: int
) -> Draw:
    """How the tokens of a generation are drawn. `levels` are the codebook's FSQ levels, num_places
    the tokens of a latent frame."""
    match config.method:
        case "entropy":
            return lambda logits, places: _by_entropy(logits, config, rng)
        case "shared-noise":
            return SharedNoise(config, rng, num_places)
        case "neighbours":
            return Neighbours(config, rng, levels)
        case _:  # best-block draws its candidates as the paper does
            return _as_the_paper(config, rng)


def _as_the_paper(config: SamplingConfig, rng: torch.Generator) -> Draw:
    scratch = Scratch()

    def draw(logits_BSV: Tensor, places_S: Tensor) -> Tensor:
        dtype = torch.bfloat16 if has_tiles() else torch.float32
        is_compiled = (
            has_vectors() and logits_BSV.device.type == "cpu" and logits_BSV.dtype == dtype
        )
        if not is_compiled or config.temperature == 0:
            return sample(logits_BSV, config, rng, scratch)
        # Only here: it brings a compiler along.
        from nbp_core.packed.calls import draw

        return draw(logits_BSV.flatten(0, 1), config, rng).view(logits_BSV.shape[:2])

    return draw


def filtered_probs(logits: Tensor, config: SamplingConfig) -> Tensor:
    """The distribution that the paper's sampling draws from: (..., V), after all filters."""
    if config.temperature == 0:
        return torch.zeros_like(logits).scatter(-1, logits.argmax(-1, keepdim=True), 1.0)
    scaled = logits.float() / config.temperature
    return filter_top_p(filter_top_k(scaled, config.top_k), config.top_p).softmax(-1)


def entropy(logits: Tensor) -> Tensor:
    """(..., V), all finite -> (...), in nats."""
    log_probs = logits.float().log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1)


def entropy_temperature(logits: Tensor, scale: float) -> Tensor:
    """(..., 1), the share of the temperature that a distribution keeps: EDT (arXiv 2403.14541).

    The surer the model is, the less it is left to chance; a sure token is never changed.
    """
    shares: Tensor = ENTROPY_BASE ** (scale / entropy(logits).unsqueeze(-1).clamp(min=1e-3))
    return shares.clamp(min=LEAST_SHARE)


def _by_entropy(logits: Tensor, config: SamplingConfig, rng: torch.Generator) -> Tensor:
    if config.temperature == 0:
        return logits.argmax(-1)
    scaled = logits.float() / config.temperature
    shares = entropy_temperature(scaled, config.method_strength)
    return sample(scaled / shares * config.temperature, config, rng)


class SharedNoise:
    """Gumbel-max with the same noise at the same place of every latent frame.

    Given logits that do not depend on the noise, a token is distributed exactly as the paper's; two
    frames with equal logits get equal tokens. Over several frames it is another distribution: what
    came before was drawn with the same noise. Holds (B, places, V) numbers.
    """

    def __init__(self, config: SamplingConfig, rng: torch.Generator, num_places: int) -> None:
        self._config = config
        self._rng = rng
        self._num_places = num_places
        self._noise_BPV: Tensor | None = None

    def __call__(self, logits_BSV: Tensor, places_S: Tensor) -> Tensor:
        if self._noise_BPV is None:
            batch, _, vocab = logits_BSV.shape
            noise = logits_BSV.new_empty((batch, self._num_places, vocab), dtype=torch.float32)
            self._noise_BPV = noise.exponential_(generator=self._rng)
        noise_BSV = self._noise_BPV[:, places_S.to(logits_BSV.device) % self._num_places]
        # The largest p / e, with e exponential, is the largest log p + Gumbel noise.
        return (filtered_probs(logits_BSV, self._config) / noise_BSV).argmax(-1)


class Neighbours:
    """Codes pooled with their FSQ neighbours: a cell of 2 levels a channel is drawn by the sum of
    its codes' probabilities, then the likeliest code of the cell is taken.

    The cell is distributed exactly as the paper's token's cell; chance no longer decides between
    codes that look nearly alike.
    """

    def __init__(
        self, config: SamplingConfig, rng: torch.Generator, levels: tuple[int, ...]
    ) -> None:
        self._config = config
        self._rng = rng
        self.cells_V = cells(levels, int(config.method_strength))

    def __call__(self, logits_BSV: Tensor, places_S: Tensor) -> Tensor:
        probs = filtered_probs(logits_BSV, self._config).flatten(0, 1)
        cells_V = self.cells_V.to(probs.device)
        pooled = probs.new_zeros((len(probs), int(cells_V.max()) + 1)).index_add(1, cells_V, probs)
        chosen = sample(pooled.log(), UNFILTERED, self._rng)
        inside = probs.masked_fill(cells_V != chosen[:, None], -1)
        return inside.argmax(-1).view(logits_BSV.shape[:2])


def cells(levels: tuple[int, ...], side: int) -> Tensor:
    """(V,) the cell of each code: `side` neighbouring levels of every channel."""
    codes = torch.arange(math.prod(levels))
    cell, size, basis = torch.zeros_like(codes), 1, 1
    for count in levels:
        cell += (codes // basis % count) // side * size
        basis *= count
        size *= math.ceil(count / side)
    return cell
