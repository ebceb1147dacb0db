"""Attention over a context so short that calling its parts costs more than the arithmetic in them.

Dimensions in comments are those of ``gptladder.model``; ``N`` is ``H`` times ``B``.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

# The longest block for which this is the fastest way.
SHORT_CONTEXT = 16


class ShortAttention(torch.autograd.Function):
    """What heads of causal self-attention gather, with a gradient by hand: fewer calls, fewer copies.

    Left to autograd, the same formula makes a step of ``layernorm`` 12 % longer.

    Args:
        packed: queries of all heads, then keys, then values, ``(B, T, 3*H*D)``.
        future: zero where a position may look and ``-inf`` where it may not, ``(T, T)``.
        n_head: ``H``.
        scale: of the scores.
        dropout: the share of the weights that is dropped.

    Returns:
        ``(B, T, H*D)``.
    """

    @staticmethod
    def forward(ctx: Any, packed: Tensor, future: Tensor, n_head: int, scale: float, dropout: float) -> Tensor:
        q, k, v = apart(packed, 3 * n_head).chunk(3)  # (B, T, 3*H*D) -> 3 of (N, T, D)
        weights = softmax_of_few(torch.baddbmm(future, q, k.transpose(1, 2), alpha=scale / math.log(2)))
        kept = F.dropout(torch.ones_like(weights), dropout) if dropout else None
        ctx.save_for_backward(q, k, v, weights, kept)
        ctx.n_head, ctx.scale = n_head, scale
        return together(torch.bmm(weights if kept is None else weights * kept, v), n_head)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Of the loss with respect to ``packed``, from that with respect to what was gathered."""
        q, k, v, weights, kept = ctx.saved_tensors
        of_y = apart(gradient, ctx.n_head)
        of_packed = of_y.new_empty(3 * of_y.size(0), *of_y.shape[1:])
        of_q, of_k, of_v = of_packed.chunk(3)
        torch.bmm((weights if kept is None else weights * kept).transpose(1, 2), of_y, out=of_v)
        of_weights = torch.bmm(of_y, v.transpose(1, 2))
        if kept is not None:
            of_weights *= kept
        of_weights *= weights
        of_scores = torch.addcmul(of_weights, weights, of_weights.sum(dim=-1, keepdim=True), value=-1)
        torch.baddbmm(of_q, of_scores, k, beta=0, alpha=ctx.scale, out=of_q)
        torch.baddbmm(of_k, of_scores.transpose(1, 2), q, beta=0, alpha=ctx.scale, out=of_k)
        return together(of_packed, 3 * ctx.n_head), None, None, None, None


def apart(packed: Tensor, n: int) -> Tensor:
    """What stands side by side in each position, one after the other: ``(B, T, n*D)`` to ``(n*B, T, D)``."""
    return packed.reshape(-1, n, packed.size(2) // n).transpose(0, 1).reshape(-1, packed.size(1), packed.size(2) // n)


def together(parts: Tensor, n: int) -> Tensor:
    """The other way round: ``(n*B, T, D)`` to ``(B, T, n*D)``."""
    _, n_time, size = parts.shape
    return parts.view(n, -1, size).transpose(0, 1).reshape(-1, n_time, n * size)


def softmax_of_few(scores: Tensor) -> Tensor:
    """A softmax to the base of two, in fp32 at least; the scores are used up.

    Over few columns torch's own takes four times as long, and its ``exp`` is slow where the future is.
    """
    weights = scores.to(torch.promote_types(scores.dtype, torch.float32))
    weights -= weights.amax(dim=-1, keepdim=True)
    weights.exp2_()
    weights *= weights.sum(dim=-1, keepdim=True).reciprocal_()
    return weights.to(scores.dtype)
