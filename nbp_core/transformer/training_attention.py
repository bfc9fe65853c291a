"""Attention of a training step on a processor, as matrix products in bfloat16.

PyTorch's fused attention computes its backward pass on a processor in float32, which is slow. Here
both passes are bfloat16 matrix products and take half as long together. The attention weights are
kept for the backward pass, so memory grows with the square of the sequence.

Shapes: B batch, L queries, M keys, K heads, E head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

Spans = list[tuple[int, int, int]]
"""(first query, last query + 1, keys that they can reach) of each chunk of queries."""


def is_bfloat16_training(query: Tensor) -> bool:
    """Whether `query` belongs to a training step under bfloat16 autocast on a processor."""
    is_on_cpu = query.device.type == "cpu" and query.requires_grad
    return is_on_cpu and torch.is_autocast_enabled("cpu")


def training_attention(
    query: Tensor, key: Tensor, value: Tensor, mask_LM: Tensor, spans: Spans
) -> Tensor:
    """softmax(q k^T / sqrt(E)) v over the keys that the mask allows.

    query, key, value: (B, K, L or M, E). Returns (B, K, L, E) in bfloat16.
    """
    query = query.bfloat16() * query.shape[-1] ** -0.5
    output: Tensor = _TrainingAttention.apply(  # type: ignore[no-untyped-call]
        query, key.bfloat16(), value.bfloat16(), mask_LM, spans
    )
    return output


class _TrainingAttention(torch.autograd.Function):
    """softmax(q k^T) v, one chunk of queries at a time, over the keys that the chunk can reach."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask_LM: Tensor, spans: Spans
    ) -> Tensor:
        query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        output, kept = torch.empty_like(query), []
        for a, b, m in spans:
            scores = query[:, :, a:b] @ key[:, :, :m].transpose(2, 3)
            hidden = mask_LM[a:b, :m].logical_not()
            # A small bias is added faster than a mask is broadcast over batch and heads.
            scores += torch.zeros_like(hidden, dtype=scores.dtype).masked_fill(hidden, -torch.inf)
            kept.append(scores.softmax(-1))
            output[:, :, a:b] = kept[-1] @ value[:, :, :m]
        ctx.save_for_backward(query, key, value, *kept)
        ctx.spans = spans
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        query, key, value, *kept = ctx.saved_tensors
        d_output = grads[0].contiguous()
        d_query, d_key, d_value = map(torch.zeros_like, (query, key, value))
        for (a, b, m), weights in zip(ctx.spans, kept, strict=True):
            d_chunk = d_output[:, :, a:b]
            d_value[:, :, :m] += weights.transpose(2, 3) @ d_chunk
            d_weights = d_chunk @ value[:, :, :m].transpose(2, 3)
            d_scores = torch._softmax_backward_data(d_weights, weights, -1, weights.dtype)
            d_query[:, :, a:b] = d_scores @ key[:, :, :m]
            d_key[:, :, :m] += d_scores.transpose(2, 3) @ query[:, :, a:b]
        return d_query, d_key, d_value, None, None
