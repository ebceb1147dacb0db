"""Attention over contexts so short that calling PyTorch's kernels takes longer than the arithmetic in them.

Channels come first here and the positions of all blocks lie next to each other, so that position ``i`` meets position
``i - j`` in one long loop over ``i``: a diagonal of the scores. Numba compiles these loops at their first call.

Sums are taken in another order than in ``CausalSelfAttention``: outputs and gradients agree to rounding, and a rung
with attention has other last digits.

Dimensions in comments are those of ``gptladder.model.gpt``; ``N`` is ``B`` times ``T``, ``J`` the ``T`` distances.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from gptladder.fast.lecture_gpt import is_traced, only_observed
from gptladder.fast.numba_loops import dot_products, weighted_sum
from gptladder.model.attention import SHORT_CONTEXT, CausalSelfAttention
from gptladder.model.kv_cache import KVCache


def use_numba_attention(net: nn.Module) -> None:
    """Replace the attention of a network with short context by ``NumbaSelfAttention``, weights and names unchanged."""
    for module in net.modules():
        if type(module) is CausalSelfAttention and NumbaSelfAttention.supports(module):
            module.__class__ = NumbaSelfAttention


class NumbaSelfAttention(CausalSelfAttention):
    """``CausalSelfAttention`` computed by ``NumbaAttention``, in fp32 or fp64 on a CPU only."""

    plain_class = CausalSelfAttention

    @staticmethod
    def supports(module: CausalSelfAttention) -> bool:
        """Whether a module's options are those of the lecture, and its context is short."""
        qkv = module.qkv
        plain = module.rope is None and type(module.qk_norm) is nn.Identity and type(qkv) is nn.Linear
        plain = plain and qkv.bias is None and not qkv._forward_pre_hooks and only_observed(qkv)
        return plain and module.n_kv_head == module.n_head and module.block_size <= SHORT_CONTEXT

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        autocast = torch.is_autocast_enabled("cpu")
        eligible = x.is_cpu and x.dtype in (torch.float32, torch.float64) and not autocast
        if cache is not None or not eligible or is_traced() or not self.supports(self):
            return super().forward(x, cache)
        if self.qkv._forward_hooks:
            self.qkv(x)  # for the hooks
        dropout = self.dropout if self.training else 0.0
        y = NumbaAttention.apply(_linear_channels_first(x, self.qkv.weight), self.n_head, self.scale, dropout)  # type: ignore[no-untyped-call]
        out: Tensor = self.projection(y)
        return out


def _linear_channels_first(x: Tensor, weight: Tensor) -> Tensor:
    """A linear whose result, ``(B, T, C)``, is contiguous along ``B`` and ``T`` for each channel."""
    return (weight @ x.flatten(0, 1).t()).t().view(*x.shape[:2], len(weight))


class NumbaAttention(torch.autograd.Function):
    """Multi-head causal self-attention with a hand-written gradient.

    Args:
        qkv: queries of all heads, then keys, then values, ``(B, T, 3*H*D)``; fastest as a view of ``(3*H*D, N)``.
        n_head: ``H``.
        scale: of the scores.
        dropout: the probability that a weight is dropped.

    Returns:
        ``(B, T, H*D)``, as a view of ``(H*D, N)``.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, n_head: int, scale: float, dropout: float) -> Tensor:
        n_block, n_time, width = x.shape
        qkv = _channels_first(x.detach()).view(3, n_head, width // (3 * n_head), n_block * n_time)
        q, k, v = qkv.numpy()
        scores = qkv.new_empty(n_head, n_time, n_block * n_time)
        dot_products(q, k, scale, -math.inf, scores.numpy())
        weights = scores.softmax(dim=1)  # (H, J, N)
        mask = _dropout_mask(weights, n_block, dropout) if dropout else None
        y = torch.empty_like(qkv[0])
        weighted_sum((weights if mask is None else weights * mask).numpy(), v, False, y.numpy())
        ctx.save_for_backward(qkv, weights, mask)
        ctx.scale = scale
        return _channels_last(y.view(-1, n_block * n_time), n_block)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor, None, None, None]:
        """The gradient of ``qkv`` from that of the output."""
        qkv, weights, mask = ctx.saved_tensors
        q, k, v = qkv.numpy()
        grad_y = _channels_first(grad_output).view(qkv[0].shape).numpy()
        grad_qkv = torch.empty_like(qkv)
        grad_q, grad_k, grad_v = grad_qkv.numpy()
        weighted_sum((weights if mask is None else weights * mask).numpy(), grad_y, True, grad_v)
        grad_scores = torch.empty_like(weights)
        dot_products(grad_y, v, 1.0, 0.0, grad_scores.numpy())
        if mask is not None:
            grad_scores *= mask
        grad_scores = torch._softmax_backward_data(grad_scores, weights, 1, weights.dtype)
        grad_scores *= ctx.scale
        weighted_sum(grad_scores.numpy(), k, False, grad_q)
        weighted_sum(grad_scores.numpy(), q, True, grad_k)
        return _channels_last(grad_qkv.view(-1, qkv.size(3)), len(grad_output)), None, None, None


def _dropout_mask(weights: Tensor, n_block: int, dropout: float) -> Tensor:
    """The mask that ``F.dropout`` draws for weights of shape ``(B, H, T, T)``, along diagonals: ``(H, J, N)``."""
    n_head, n_time, _ = weights.shape
    mask = F.dropout(weights.new_ones(n_block, n_head, n_time * n_time), dropout)
    mask = mask.index_select(2, _diagonals(n_time)).view(n_block, n_head, n_time, n_time)  # (B, H, J, T)
    return mask.permute(1, 2, 0, 3).reshape(weights.shape)


@cache
def _diagonals(n_time: int) -> Tensor:
    """Where the weight of row ``i`` and distance ``j`` is in a ``(T, T)`` matrix; columns wrap around, unused."""
    row = torch.arange(n_time)
    return (row * n_time + (row - row.unsqueeze(1)) % n_time).flatten()


def _channels_first(x: Tensor) -> Tensor:
    """``(B, T, C)`` to ``(C, N)``, without a copy if it is a view of that."""
    return x.flatten(0, 1).t().contiguous()


def _channels_last(x: Tensor, n_block: int) -> Tensor:
    """``(C, N)`` to ``(B, T, C)``, without a copy."""
    return x.t().view(n_block, -1, len(x))
