"""Causal attention: a uniform mean of the past, and heads of self-attention.

Dimensions in comments are those of ``gptladder.model.gpt``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptladder.model.kv_cache import KVCache
from gptladder.model.rotary import RotaryEmbedding

# Up to this context length torch's fused kernel takes longer on a CPU than the explicit sum.
SHORT_CONTEXT = 16


class UniformAttention(nn.Module):
    """Every position averages the values up to its own: attention with equal weights.

    ``(B, T, n_embd)`` to ``(B, T, H*D)``, or to ``(B, T, n_embd)`` with an output projection.
    """

    def __init__(self, n_embd: int, *, n_head: int, head_size: int, projection: bool, bias: bool) -> None:
        super().__init__()
        self.n_head = n_head
        self.value = nn.Linear(n_embd, n_head * head_size, bias=False)
        self.projection = nn.Linear(n_head * head_size, n_embd, bias=bias) if projection else nn.Identity()

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        v = self.value(x)  # (B, T, C) -> (B, T, H*D)
        if cache is not None:
            (v,) = cache.update(self, v)
        n_tokens = torch.arange(1, v.size(1) + 1, device=x.device).unsqueeze(1)  # (T, 1)
        mean = (v.cumsum(dim=1) / n_tokens)[:, -x.size(1) :]
        y: Tensor = self.projection(mean)
        return y

    def weights(self, x: Tensor) -> Tensor:
        """The attention weights, ``(B, H, T, T)``: each row uniform over the past."""
        past = x.new_ones(x.size(1), x.size(1)).tril()
        return (past / past.sum(dim=1, keepdim=True)).expand(x.size(0), self.n_head, -1, -1)


class CausalSelfAttention(nn.Module):
    """Multi-head causal self-attention (Vaswani et al. 2017).

    ``(B, T, n_embd)`` to ``(B, T, H*D)``, or to ``(B, T, n_embd)`` with an output projection.

    Args:
        n_embd: ``C``.
        block_size: the longest ``T``.
        n_head, head_size: ``H`` and ``D``.
        scale: divide the scores by ``sqrt(D)``.
        dropout: on the attention weights.
        projection: a linear after the concatenated heads.
        bias: a bias in that linear.
        rope: rotary position embeddings.
        qk_norm: LayerNorm on queries and keys, without learned parameters.
        sdpa: use ``F.scaled_dot_product_attention`` for contexts longer than ``SHORT_CONTEXT``. In bf16 on a CPU the
            explicit sum is faster (32 blocks of 64 and 2 heads of 64, forward and backward: 3.7 ms instead of 15.3).
    """

    def __init__(
        self,
        n_embd: int,
        *,
        block_size: int,
        n_head: int,
        head_size: int,
        scale: bool,
        dropout: float,
        projection: bool,
        bias: bool,
        rope: bool = False,
        qk_norm: bool = False,
        sdpa: bool = True,
    ) -> None:
        super().__init__()
        self.block_size = block_size
        self.n_head = n_head
        self.head_size = head_size
        self.scale = head_size**-0.5 if scale else 1.0
        self.dropout = dropout
        self.sdpa = sdpa and block_size > SHORT_CONTEXT
        # One matrix for the queries, keys and values of all heads. Its values are drawn as in the lecture, which
        # builds a key, a query and a value for each head in turn.
        parts = [[nn.Linear(n_embd, head_size, bias=False).weight for _ in range(3)] for _ in range(n_head)]
        key, query, value = zip(*parts, strict=True)
        self.qkv: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, n_embd, 3 * n_head * head_size, bias=False
        )
        self.qkv.weight = nn.Parameter(torch.cat([*query, *key, *value]).detach())  # (3*H*D, C)
        self.qk_norm = nn.LayerNorm(head_size, elementwise_affine=False) if qk_norm else nn.Identity()
        self.rope = RotaryEmbedding(block_size=block_size, head_size=head_size) if rope else None
        self.projection = nn.Linear(n_head * head_size, n_embd, bias=bias) if projection else nn.Identity()
        self.causal_mask: Tensor
        self.register_buffer("causal_mask", torch.full((block_size, block_size), -torch.inf).triu(1), persistent=False)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        q, k, v = self.split_heads(self.qkv(x), start=cache.length if cache is not None else 0)
        if cache is not None:
            k, v = cache.update(self, k, v)
        dropout = self.dropout if self.training else 0.0
        if self.sdpa:
            causal = q.size(2) > 1  # a single query attends to all keys
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=causal, scale=self.scale)
        else:
            y = F.dropout(self.softmax_weights(q, k), dropout) @ v
        out: Tensor = self.projection(y.transpose(1, 2).flatten(2))  # (B, H, T, D) -> (B, T, H*D)
        return out

    def split_heads(self, qkv: Tensor, start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, ``(B, H, T, D)`` each, from ``(B, T, 3*H*D)``; ``start`` is the first position."""
        qkv = qkv.view(*qkv.shape[:2], 3, self.n_head, self.head_size).permute(2, 0, 3, 1, 4)  # (3, B, H, T, D)
        qk, v = qkv.split_with_sizes([2, 1])
        qk = self.qk_norm(qk)
        if self.rope is not None:
            qk = self.rope(qk, start)
        q, k = qk
        return q, k, v.squeeze(0)

    def softmax_weights(self, q: Tensor, k: Tensor) -> Tensor:
        """The attention weights of the last ``t`` positions, ``(B, H, t, T)``: rows sum to one, the future is zero."""
        n_new, n_time = q.size(2), k.size(2)
        mask = self.causal_mask[n_time - n_new : n_time, :n_time]
        scores = torch.baddbmm(mask, q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), alpha=self.scale)
        return scores.softmax(dim=-1).view(*q.shape[:3], n_time)  # (B*H, t, T) -> (B, H, t, T)

    def weights(self, x: Tensor) -> Tensor:
        """The attention weights that ``forward`` uses for an input, without dropout, ``(B, H, T, T)``."""
        q, k, _ = self.split_heads(self.qkv(x))
        return self.softmax_weights(q, k)


def attention_weights(net: nn.Module, idx: Tensor) -> list[Tensor]:
    """The attention weights of every head for one prompt.

    Args:
        net: in evaluation mode.
        idx: token numbers of a prompt, ``(T,)``.

    Returns:
        One ``(H, T, T)`` tensor per layer, on the CPU; empty for a network without attention.
    """
    return [weights[0] for weights in batch_attention_weights(net, idx.unsqueeze(0))]


@torch.inference_mode()
def batch_attention_weights(net: nn.Module, idx: Tensor) -> list[Tensor]:
    """The same for several prompts of one length, ``(B, T)``: one ``(B, H, T, T)`` tensor per layer."""
    maps: list[Tensor] = []

    def hook(module: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(module, CausalSelfAttention | UniformAttention)
        maps.append(module.weights(inputs[0]).float().cpu())

    layers = [module for module in net.modules() if isinstance(module, CausalSelfAttention | UniformAttention)]
    handles = [module.register_forward_pre_hook(hook) for module in layers]
    try:
        net.forward(idx)  # a compiled network, when called, may ignore hooks
    finally:
        for handle in handles:
            handle.remove()
    return maps
