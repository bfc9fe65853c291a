"""Best of K blocks: each block is drawn several times, and the one stays after which the model is
surest of the next. Shapes: B batch, K candidates, n new tokens of a step, L positions, V codes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import torch
from torch import Tensor

from nbp_core.blocks.sequences import DecodeStep, SequenceLayout
from nbp_core.config.sampling import SamplingConfig
from nbp_core.sampling.filters import guide
from nbp_core.sampling.sampler import Sampler, TokenStep, synchronize
from nbp_core.sampling.second_look import SecondLookSampler
from nbp_core.sampling.shared_noise import entropy
from nbp_core.transformer.model import BlockTransformer


def sampler_of(
    model: BlockTransformer,
    layout: SequenceLayout,
    sampling: SamplingConfig,
    rng: torch.Generator,
    levels: tuple[int, ...],
) -> Sampler:
    """The sampler that a SamplingConfig's method names.

    Raises ValueError for a method that the model was not trained for.
    """
    match sampling.method:
        case "best-block":
            kind: type[Sampler] = BestBlockSampler
        case "second-look":
            if not model.config.second_look:
                raise ValueError(f"model {model.config.name!r} was not trained for a second look")
            kind = SecondLookSampler
        case _:
            kind = Sampler
    return kind(model, layout, sampling, rng, levels)


def confidence(logits: Tensor) -> Tensor:
    """(rows, n, V) -> (rows,), minus the mean entropy of the next block's tokens."""
    return -entropy(logits).mean(-1)


class BestBlockSampler(Sampler):
    """Every candidate is an exact draw of the paper's; the choice between them is not.

    The candidates are rows of one batch, so a step costs K rows and no further forward; a block is
    told one step late. The last block, and the first one's single tokens, are drawn once.
    """

    @torch.inference_mode()
    def stream(
        self,
        tokens_Bthw: Tensor,
        num_known_tokens: int,
        conditions_BP: Tensor | None = None,
        null_conditions_BP: Tensor | None = None,
        stop: threading.Event | None = None,
    ) -> Iterator[TokenStep]:
        """As Sampler.stream; same number of steps."""
        layout, model = self.layout, self.model
        candidates = int(self.sampling.method_strength)
        ids_RL = layout.input_ids(tokens_Bthw, conditions_BP).repeat_interleave(candidates, 0)
        if null_conditions_BP is not None:
            nulls = null_conditions_BP.repeat_interleave(candidates, 0)
            ids_RL = torch.cat([ids_RL, layout.with_conditions(ids_RL, nulls)])
        position_of = self._positions()
        inputs = model.position_inputs(layout)
        cache = model.new_cache(ids_RL.shape[0], layout.length)
        num_rows = tokens_Bthw.shape[0] * candidates
        rows_BK = torch.arange(num_rows, device=ids_RL.device).view(-1, candidates)
        waiting: tuple[DecodeStep, Tensor, float] | None = None
        steps = layout.decode_steps(num_known_tokens)
        for step in steps:
            if stop is not None and stop.is_set():
                return
            began = time.perf_counter()
            new_RL = ids_RL[:, step.start : step.stop]
            features = model.features(new_RL, layout, start=step.start, cache=cache, inputs=inputs)
            logits = model.video_logits(features[:, -(step.last - step.first) :])
            if null_conditions_BP is not None:
                with_condition, without = logits.chunk(2)
                logits = guide(with_condition, without, self.sampling.guidance_scale)
            best_B = confidence(logits).view(rows_BK.shape).argmax(1)
            chosen_B = rows_BK.gather(1, best_B[:, None]).squeeze(1)
            if waiting is not None:
                told, tokens, seconds = waiting
                kept = tokens[chosen_B]
                yield TokenStep(
                    told.phase, kept, told.first, seconds, cache.length, cache.num_bytes
                )
            # All candidates go on from the chosen one: only what this step read differs.
            source_R = chosen_B.repeat_interleave(candidates)
            if null_conditions_BP is not None:
                source_R = torch.cat([source_R, source_R + rows_BK.numel()])
            ids_RL = ids_RL[source_R]
            for store in (cache.keys, cache.values):
                fresh = store[:, :, :, step.start : step.stop]
                fresh.copy_(fresh[:, source_R])
            is_single = step.last - step.first == 1 or step is steps[-1]
            logits = logits[chosen_B].repeat_interleave(1 if is_single else candidates, 0)
            tokens = self._draw(logits, self._places(step))
            tokens = tokens.repeat_interleave(candidates if is_single else 1, 0)
            self._feed_back(ids_RL, tokens, step, position_of)
            synchronize(ids_RL.device)
            waiting = (step, tokens, time.perf_counter() - began)
        if waiting is not None:
            told, tokens, seconds = waiting
            last = tokens[rows_BK[:, 0]]
            yield TokenStep(told.phase, last, told.first, seconds, cache.length, cache.num_bytes)
