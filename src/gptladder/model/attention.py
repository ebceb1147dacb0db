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
        n_kv_head: ``K``, heads of keys and values, each shared by ``H / K`` query heads that follow each other (Ainslie
            et al. 2023, "GQA"); a KV cache holds ``K`` heads only. ``None`` is ``n_head``.
        qkv_bias: a bias in queries, keys and values.
        rope: builds rotary position embeddings; ``None`` leaves them out.
        qk_norm: normalizes queries and keys; ``None`` leaves that out.
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
        n_kv_head: int | None = None,
        qkv_bias: bool = False,
        rope: RotaryEmbedding | None = None,
        qk_norm: nn.Module | None = None,
        sdpa: bool = True,
    ) -> None:
        super().__init__()
        self.block_size = block_size
        self.n_head = n_head
        self.n_kv_head = n_kv_head = n_kv_head or n_head
        self.head_size = head_size
        self.scale = head_size**-0.5 if scale else 1.0
        self.dropout = dropout
        self.sdpa = sdpa and block_size > SHORT_CONTEXT
        # One matrix for the queries, keys and values of all heads. Its values are drawn as in the lecture, which
        # builds a key, a query and a value for each head in turn.
        key: list[Tensor] = []
        query: list[Tensor] = []
        value: list[Tensor] = []
        for head in range(n_head):
            for part, n_part in ((key, n_kv_head), (query, n_head), (value, n_kv_head)):
                if head < n_part:
                    part.append(nn.Linear(n_embd, head_size, bias=False).weight)
        weight = torch.cat([*query, *key, *value]).detach()  # ((H + 2*K)*D, C)
        self.qkv: nn.Linear = nn.utils.skip_init(nn.Linear, n_embd, len(weight), bias=qkv_bias)  # type: ignore[no-untyped-call]
        self.qkv.weight = nn.Parameter(weight)
        if qkv_bias:
            nn.init.zeros_(self.qkv.bias)
        self.qk_norm = qk_norm or nn.Identity()
        self.rope = rope
        self.projection = nn.Linear(n_head * head_size, n_embd, bias=bias) if projection else nn.Identity()
        self.causal_mask: Tensor
        self.register_buffer("causal_mask", torch.full((block_size, block_size), -torch.inf).triu(1), persistent=False)

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        start = cache.length if cache is not None else 0
        q, k, v = self.split_heads(self.qkv(x), start=start)
        if cache is not None:
            k, v = cache.update(self, k, v)
        dropout = self.dropout if self.training else 0.0
        if self.sdpa:
            several = start > 0 and x.size(1) > 1  # a single new token attends to all earlier ones: no mask
            y = F.scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=self.causal_mask[start : start + x.size(1), : k.size(2)] if several else None,
                dropout_p=dropout,
                is_causal=start == 0,
                scale=self.scale,
                enable_gqa=self.n_kv_head < self.n_head,
            )
        else:
            y = F.dropout(self.softmax_weights(q, k), dropout) @ self.repeat_kv(v)
        out: Tensor = self.projection(y.transpose(1, 2).flatten(2))  # (B, H, T, D) -> (B, T, H*D)
        return out

    def split_heads(self, qkv: Tensor, start: int = 0) -> tuple[Tensor, Tensor, Tensor]:
        """Queries ``(B, H, T, D)``, keys and values ``(B, K, T, D)``; ``start`` is the position of the first token.

        Args:
            qkv: queries of all heads, then keys, then values, ``(B, T, (H + 2*K)*D)``.
        """
        heads = qkv.view(*qkv.shape[:2], -1, self.head_size).transpose(1, 2)  # (B, H + 2*K, T, D)
        qk, v = heads.split_with_sizes([self.n_head + self.n_kv_head, self.n_kv_head], dim=1)
        qk = self.qk_norm(qk)
        if self.rope is not None:
            qk = self.rope(qk, start)
        q, k = qk.split_with_sizes([self.n_head, self.n_kv_head], dim=1)
        return q, k, v

    def repeat_kv(self, x: Tensor) -> Tensor:
        """Each head of keys or values once per query head that shares it, ``(B, K, T, D)`` to ``(B, H, T, D)``."""
        return x if self.n_kv_head == self.n_head else x.repeat_interleave(self.n_head // self.n_kv_head, dim=1)

    def softmax_weights(self, q: Tensor, k: Tensor) -> Tensor:
        """The attention weights of the last ``t`` positions, ``(B, H, t, T)``: rows sum to one, the future is zero."""
        n_new, n_time = q.size(2), k.size(2)
        mask = self.causal_mask[n_time - n_new : n_time, :n_time]
        k = self.repeat_kv(k)
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
