"""Exact speculative decoding: next-block prediction drafts, the same weights verify per token.

The tokens have the distribution of next-token prediction for any drafts. The drafts only determine
how many tokens a forward pass confirms. Source: Leviathan et al., arXiv 2211.17192.
Shapes: S tokens per draft, n tokens under verification, V codes; one clip at a time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from nbp_core.blocks.sequences import sequence_layout
from nbp_core.config.sampling import SamplingConfig
from nbp_core.config.shapes import Size3
from nbp_core.sampling.decoder import Decoder
from nbp_core.sampling.filters import UNFILTERED, filtered_probs, sample
from nbp_core.sampling.sampler import Sampler, TokenStep, synchronize
from nbp_core.transformer.model import BlockTransformer


@dataclass
class Tally:
    """Counts of a generation so far."""

    drafts: int = 0
    """Forward passes that drafted a block."""
    verifications: int = 0
    """Forward passes of next-token prediction, which give the tokens."""
    drafted: int = 0
    """Drafted tokens."""
    accepted: int = 0
    """Drafted tokens that were kept."""
    tokens: int = 0
    """New tokens, drafted or not."""

    @property
    def tokens_per_step(self) -> float:
        """New tokens per forward pass, drafts included; 1 is next-token prediction alone."""
        return self.tokens / max(1, self.drafts + self.verifications)

    @property
    def acceptance(self) -> float:
        return self.accepted / max(1, self.drafted)


def verify(
    draft_S: Tensor, draft_probs_SV: Tensor, probs_SV: Tensor, rng: torch.Generator
) -> tuple[int, Tensor | None]:
    """Returns the number of kept draft tokens and the token that replaces the first dropped one.

    A token x drafted from q is kept with probability min(1, p(x) / q(x)). Otherwise another is
    drawn from the normalised max(0, p - q). In both cases the token is distributed as p.
    """
    rows = torch.arange(len(draft_S), device=draft_S.device)
    noise = torch.rand(len(draft_S), generator=rng, device=draft_S.device)
    is_kept = noise * draft_probs_SV[rows, draft_S] < probs_SV[rows, draft_S]
    count = int(is_kept.long().cumprod(0).sum())
    if count == len(draft_S):
        return count, None
    missing = (probs_SV[count] - draft_probs_SV[count]).clamp(min=0)
    return count, sample(missing.log()[None], UNFILTERED, rng)[0]


class SpeculativeSampler:
    """Decodes one clip of an elastic model in raster order."""

    def __init__(
        self,
        model: BlockTransformer,
        draft_shape: Size3,
        num_latent_frames: int,
        sampling: SamplingConfig,
        rng: torch.Generator,
    ) -> None:
        """sampling: temperature, top-k and top-p; tokens are drawn without guidance.

        Raises ValueError for a model or a block shape that cannot draft for next tokens.
        """
        if model.config.layout != "elastic":
            raise ValueError(f"model {model.config.name!r} cannot predict both tokens and blocks")
        single = sequence_layout(model.config, (1, 1, 1), num_latent_frames)
        draft = sequence_layout(model.config, draft_shape, num_latent_frames)
        places = draft.blocks.places_NS.flatten()
        if not torch.equal(places, torch.arange(len(places))):
            raise ValueError("drafts must be parts of rows or whole rows, such as 1x1x16")
        self.model = model
        self.sampling = sampling
        self.rng = rng
        self.tally = Tally()
        self._single = Sampler(Decoder(model), single, sampling, [rng])
        self._draft = Sampler(Decoder(model), draft, sampling, [rng])

    @torch.inference_mode()
    def stream(
        self, tokens_Bthw: Tensor, num_known_tokens: int, conditions_BP: Tensor | None
    ) -> Iterator[TokenStep]:
        """Yields one TokenStep per verification, with the tokens it confirmed in raster order.

        Otherwise as Sampler.stream, for a batch of one.
        """
        single, layout = self._single.layout, self._draft.layout
        ids, draft_ids = (x.input_ids(tokens_Bthw, conditions_BP) for x in (single, layout))
        state = _State(self, ids, num_known_tokens)
        draft_cache = self.model.new_cache(1, layout.length)
        position_of = self._draft._positions()
        inputs = self.model.position_inputs(layout)
        for step in layout.decode_steps(num_known_tokens):
            if step.last - step.first == 1:  # the first block, which cannot be drafted
                yield state.settle(None, None)
            else:
                state.began = time.perf_counter()
                # The first draft reads all positions so far, since its cache is still empty.
                start = draft_cache.length
                fed = draft_ids[:, start : step.stop]
                features = self.model.features(
                    fed, layout, start=start, cache=draft_cache, inputs=inputs
                )
                logits = self.model.video_logits(features[0, -(step.last - step.first) :])
                q_SV = filtered_probs(logits, self.sampling)
                draft_S = sample(q_SV.log(), UNFILTERED, self.rng)
                self.tally.drafts += 1
                self.tally.drafted += len(draft_S)
                while state.count < step.last:
                    rest = slice(state.count - step.first, None)
                    # The rest of a draft is not verified yet and stays a draft.
                    yield state.settle(draft_S[rest], q_SV[rest])
            made = state.tokens[step.first : step.last]
            self._draft._feed_back(draft_ids, made[None], step, position_of)


class _State:
    """The verifying side of a generation: the final ("settled") tokens and their KV cache."""

    def __init__(self, owner: SpeculativeSampler, ids_BL: Tensor, num_known: int) -> None:
        self.owner = owner
        self.layout = owner._single.layout
        self.ids_BL = ids_BL
        self.cache = owner.model.new_cache(1, self.layout.length)
        self.inputs = owner.model.position_inputs(self.layout)
        known = ids_BL[0, self.layout.source_L >= 0][:num_known] - self.layout.first_video_id
        total = self.layout.blocks.num_tokens
        self.tokens = torch.cat([known, known.new_zeros(total - num_known)])
        self.count = num_known
        self.began = time.perf_counter()

    def settle(self, draft_S: Tensor | None, q_SV: Tensor | None) -> TokenStep:
        """Makes one forward pass and settles tokens: those of the draft before the first dropped
        one, and its replacement. Without a draft it settles one token."""
        owner, first, began = self.owner, self.count, self.began
        num_draft = 0 if draft_S is None else len(draft_S)
        if draft_S is not None:
            self._put(draft_S)
        # Position prefix + i holds token i - 1 and predicts token i.
        start = self.cache.length
        stop = self.layout.prefix_len + first + max(1, num_draft)
        fed = self.ids_BL[:, start:stop]
        features = owner.model.features(
            fed, self.layout, start=start, cache=self.cache, inputs=self.inputs
        )
        p_SV = filtered_probs(
            owner.model.video_logits(features[0, -max(1, num_draft) :]), owner.sampling
        )
        if draft_S is None or q_SV is None:
            settled = sample(p_SV.log(), UNFILTERED, owner.rng)
        else:
            kept, other = verify(draft_S, q_SV, p_SV, owner.rng)
            settled = draft_S[:kept] if other is None else torch.cat([draft_S[:kept], other[None]])
            owner.tally.accepted += kept
        self._put(settled)
        self.count += len(settled)
        # Cache entries beyond the settled tokens are dropped.
        self.cache.length = self.layout.prefix_len + self.count
        owner.tally.verifications += 1
        owner.tally.tokens += len(settled)
        synchronize(fed.device)
        self.began = time.perf_counter()
        seconds = self.began - began
        length, num_bytes = self.cache.length, self.cache.num_bytes
        return TokenStep("token", settled[None], first, seconds, length, num_bytes)

    def _put(self, tokens_n: Tensor) -> None:
        """Writes tokens from the first unsettled place on, and to the inputs of the next step."""
        stop = self.count + len(tokens_n)
        self.tokens[self.count : stop] = tokens_n
        position = self.layout.prefix_len + 1 + self.count
        end = min(position + len(tokens_n), self.ids_BL.shape[1])
        self.ids_BL[0, position:end] = tokens_n[: end - position] + self.layout.first_video_id
