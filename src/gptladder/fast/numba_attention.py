"""Attention over a context so short that calling torch's parts costs more than the arithmetic in them.

Channels come first here and all positions of all blocks lie side by side, so that position ``i`` meets the one ``j``
before it in one long loop over ``i``, a diagonal of the scores. Numba compiles these loops once, at their first call.

Dimensions in comments are those of ``gptladder.model.gpt``; ``N`` is ``B`` times ``T``, ``J`` the ``T`` distances.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numba
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

# Whole channels, `(H, D, N)`; whole diagonals, `(H, J, N)`.
Channels = NDArray[Any]
Diagonals = NDArray[Any]


def compiled(loops: Callable[..., None]) -> Callable[..., None]:
    """Have Numba compile a function, and keep the result for later processes where there is a place for it."""
    compile_loops = partial(numba.njit, nogil=True, fastmath={"contract"})
    try:
        return compile_loops(cache=True)(loops)
    except RuntimeError:  # neither beside this file nor in the user's own cache
        return compile_loops()(loops)


class ShortAttention(torch.autograd.Function):
    """What heads of causal self-attention gather, with a gradient by hand, in fp32 or fp64 on a CPU.

    Written as batched products of torch's it makes a step of ``multihead`` a fifth longer and its evaluations a third.

    Args:
        packed: queries of all heads, then keys, then values, ``(B, T, 3*H*D)``; best as a view of ``(3*H*D, N)``.
        n_head: ``H``.
        scale: of the scores.
        dropout: the share of the weights that is dropped.

    Returns:
        ``(B, T, H*D)``, as a view of ``(H*D, N)``.
    """

    @staticmethod
    def forward(ctx: Any, packed: Tensor, n_head: int, scale: float, dropout: float) -> Tensor:
        n_block, n_time, width = packed.shape
        qkv = channels_first(packed.detach()).view(3, n_head, width // (3 * n_head), n_block * n_time)
        q, k, v = qkv.numpy()
        scores = qkv.new_empty(n_head, n_time, n_block * n_time)
        multiply(q, k, scale, -math.inf, scores.numpy())
        weights = scores.softmax(dim=1)  # (H, J, N)
        kept = F.dropout(torch.ones_like(weights), dropout) if dropout else None
        y = torch.empty_like(qkv[0])
        gather((weights if kept is None else weights * kept).numpy(), v, y.numpy())
        ctx.save_for_backward(qkv, weights, kept)
        ctx.scale = scale
        return channels_last(y.view(-1, n_block * n_time), n_block)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        """Of the loss with respect to ``packed``, from that with respect to what was gathered."""
        qkv, weights, kept = ctx.saved_tensors
        q, k, v = qkv.numpy()
        of_y = channels_first(gradient).view(qkv[0].shape).numpy()
        of_qkv = torch.empty_like(qkv)
        of_q, of_k, of_v = of_qkv.numpy()
        scatter((weights if kept is None else weights * kept).numpy(), of_y, of_v)
        of_weights = torch.empty_like(weights)
        multiply(of_y, v, 1.0, 0.0, of_weights.numpy())
        if kept is not None:
            of_weights *= kept
        of_scores = torch._softmax_backward_data(of_weights, weights, 1, weights.dtype)
        of_scores *= ctx.scale
        gather(of_scores.numpy(), k, of_q)
        scatter(of_scores.numpy(), q, of_k)
        return channels_last(of_qkv.view(-1, qkv.size(3)), len(gradient)), None, None, None


def channels_first(x: Tensor) -> Tensor:
    """``(B, T, C)`` to ``(C, N)``, without a copy if it comes from there."""
    return x.flatten(0, 1).t().contiguous()


def channels_last(x: Tensor, n_block: int) -> Tensor:
    """``(C, N)`` to ``(B, T, C)``, without a copy."""
    return x.t().view(n_block, -1, len(x))


@compiled
def multiply(here: Channels, past: Channels, scale: float, outside: float, out: Diagonals) -> None:
    """Each position's product with those up to it, ``outside`` where these are of another block."""
    n_head, n_channel, n = here.shape
    n_time = out.shape[1]
    for h in range(n_head):
        for j in range(n_time):
            diagonal = out[h, j, j:]
            diagonal[:] = 0
            for d in range(n_channel):
                a, b = here[h, d, j:], past[h, d, : n - j]
                for i in range(n - j):
                    diagonal[i] += a[i] * b[i]
            diagonal *= out.dtype.type(scale)
            for start in range(0, n, n_time):
                out[h, j, start : start + j] = outside


@compiled
def gather(diagonals: Diagonals, past: Channels, out: Channels) -> None:
    """For each position the weighted sum of those up to it."""
    n_head, n_channel, n = past.shape
    for h in range(n_head):
        for d in range(n_channel):
            out[h, d] = 0
            for j in range(diagonals.shape[1]):
                w, a, b = diagonals[h, j, j:], out[h, d, j:], past[h, d, : n - j]
                for i in range(n - j):
                    a[i] += w[i] * b[i]


@compiled
def scatter(diagonals: Diagonals, here: Channels, out: Channels) -> None:
    """For each position the weighted sum of those that look at it."""
    n_head, n_channel, n = here.shape
    for h in range(n_head):
        for d in range(n_channel):
            out[h, d] = 0
            for j in range(diagonals.shape[1]):
                w, a, b = diagonals[h, j, j:], here[h, d, j:], out[h, d, : n - j]
                for i in range(n - j):
                    b[i] += w[i] * a[i]
