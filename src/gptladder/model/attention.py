"""How a position reads its past: a plain mean, heads of attention, and a look at their weights.

Dimensions in comments are those of ``gptladder.model.gpt``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptladder.model.kv_cache import NO_MEMORY, Memory, NoMemory
from gptladder.model.rotary import Rotary

# The longest block for which `gptladder.fast.numba_attention` is the fastest way, with heads as small as the lecture's.
SHORT_CONTEXT = 16


class Average(nn.Module):
    """Each position gets the plain mean of the values up to it: attention before it can choose."""

    def __init__(self, n_embd: int, *, n_head: int, head_size: int) -> None:
        super().__init__()
        self.n_head = n_head
        self.value = nn.Linear(n_embd, n_head * head_size, bias=False)
        self.memory: Memory | NoMemory = NO_MEMORY

    def forward(self, x: Tensor) -> Tensor:
        (values,) = self.memory.with_past(self.value(x))  # (B, T, C) -> (B, T, H*D)
        seen = torch.arange(1, values.size(1) + 1, device=x.device).unsqueeze(1)  # (T, 1)
        return self.memory.newest(values.cumsum(dim=1) / seen, x.size(1))

    def weights(self, x: Tensor) -> Tensor:
        """Who looks at whom, ``(B, H, T, T)``: each row uniform over the past."""
        past = x.new_ones(x.size(1), x.size(1)).tril()
        return (past / past.sum(dim=1, keepdim=True)).expand(x.size(0), self.n_head, -1, -1)


class Attention(nn.Module):
    """Heads of causal self-attention, side by side (Vaswani et al. 2017).

    Contexts up to ``SHORT_CONTEXT`` have a way of their own, longer ones take torch's fused kernel. In bf16 on a CPU
    the explicit sum is faster (32 blocks of 64 and 2 heads of 64, forward and backward: 3.7 ms, the kernel 15.3).
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
        rotary: bool = False,
        qk_norm: bool = False,
        fused: bool = True,
    ) -> None:
        super().__init__()
        self.n_head = n_head
        self.head_size = head_size
        self.scale = head_size**-0.5 if scale else 1.0
        self.dropout = dropout
        short = block_size <= SHORT_CONTEXT and not rotary and not qk_norm
        self.attend = self.short if short else self.fused if fused else self.explicit
        self.pack = columns if short else F.linear
        # One matrix for the queries, keys and values of all heads, holding the draws of the lecture, which builds
        # for each head in turn a key, a query and a value.
        draws = [[nn.Linear(n_embd, head_size, bias=False).weight for _ in range(3)] for _ in range(n_head)]
        key, query, value = zip(*draws, strict=True)
        self.query_key_value = nn.Parameter(torch.cat([*query, *key, *value]).detach())  # (3*H*D, C)
        # Without a gain torch's fused LayerNorm is the cheapest norm there is.
        self.normalise = nn.LayerNorm(head_size, elementwise_affine=False) if qk_norm else nn.Identity()
        self.rotate = Rotary(block_size=block_size, head_size=head_size) if rotary else nn.Identity()
        self.memory: Memory | NoMemory = NO_MEMORY
        self.register_buffer("future", torch.full((block_size, block_size), -torch.inf).triu(1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.attend(self.packed(x))
        return y

    def packed(self, x: Tensor) -> Tensor:
        """Queries, keys and values of all heads, ``(B, T, 3*H*D)``."""
        return self.pack(x, self.query_key_value)

    def heads(self, packed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of an input, and keys and values of it and its past, each ``(B, H, T, D)``."""
        parted = packed.view(*packed.shape[:2], 3, self.n_head, self.head_size)
        qk, v = parted.permute(2, 0, 3, 1, 4).split_with_sizes([2, 1])  # (B, T, 3, H, D) -> (2 and 1, B, H, T, D)
        q, k = self.rotate(self.normalise(qk))
        return q, *self.memory.with_past(k, v.squeeze(0))

    def short(self, packed: Tensor) -> Tensor:
        """What every position gathers from its past, where there is little of it."""
        if packed.dtype not in (torch.float32, torch.float64) or not packed.is_cpu or torch.compiler.is_compiling():
            return self.explicit(packed)
        from gptladder.fast.numba_attention import ShortAttention  # 0.3 s, which not every rung needs

        (seen,) = self.memory.with_past(packed)
        y = ShortAttention.apply(seen, self.n_head, self.scale, self._dropout)  # type: ignore[no-untyped-call]
        return self.memory.newest(y, packed.size(1))

    def fused(self, packed: Tensor) -> Tensor:
        """The same, in one kernel of torch's."""
        q, k, v = self.heads(packed)
        causal = q.size(2) > 1  # a single query looks at all there is
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=self._dropout, is_causal=causal, scale=self.scale)
        return y.transpose(1, 2).flatten(2)  # (B, H, T, D) -> (B, T, H*D)

    def explicit(self, packed: Tensor) -> Tensor:
        """The same, with its weights in the open."""
        q, k, v = self.heads(packed)
        y = F.dropout(self.affinity(q, k), self._dropout) @ v
        return y.transpose(1, 2).flatten(2)  # (B, H, T, D) -> (B, T, H*D)

    @property
    def _dropout(self) -> float:
        return self.dropout if self.training else 0.0

    def affinity(self, q: Tensor, k: Tensor) -> Tensor:
        """Who looks at whom, ``(B, H, T, T)``: each row sums to one and is zero on the future."""
        start, n_time = k.size(2) - q.size(2), k.size(2)
        future = self.future[start:n_time, :n_time]  # type: ignore[index]
        scores = torch.baddbmm(future, q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2), alpha=self.scale)
        return scores.softmax(dim=-1).view(*q.shape[:3], n_time)  # (B*H, T, T) -> (B, H, T, T)

    def weights(self, x: Tensor) -> Tensor:
        """The affinities that ``forward`` uses for an input, without dropout."""
        q, k, _ = self.heads(self.packed(x))
        return self.affinity(q, k)


def columns(x: Tensor, weight: Tensor) -> Tensor:
    """A linear whose result, ``(B, T, C)``, lies channel by channel in memory."""
    return (weight @ x.flatten(0, 1).t()).t().view(*x.shape[:2], len(weight))


def gathers(
    attention: Literal["mean", "softmax"], n_embd: int, *, n_head: int, head_size: int, **options: Any
) -> Callable[[], nn.Module]:
    """What builds the part of a layer that reads the past; ``options`` are those of ``Attention``."""
    if attention == "mean":
        return partial(Average, n_embd, n_head=n_head, head_size=head_size)
    return partial(Attention, n_embd, n_head=n_head, head_size=head_size, **options)


def attention_weights(net: nn.Module, idx: Tensor) -> list[Tensor]:
    """What every head of every layer reads.

    Args:
        net: in evaluation mode.
        idx: token numbers of a prompt, ``(T,)``.

    Returns:
        one ``(H, T, T)`` tensor a layer, on the CPU; empty for a rung that does not attend.
    """
    return [weights[0] for weights in batch_attention_weights(net, idx.unsqueeze(0))]


@torch.inference_mode()
def batch_attention_weights(net: nn.Module, idx: Tensor) -> list[Tensor]:
    """The same of several prompts of one length, ``(B, T)``: one ``(B, H, T, T)`` tensor a layer."""
    maps: list[Tensor] = []

    def look(module: nn.Module, inputs: tuple[Tensor]) -> None:
        assert isinstance(module, Attention | Average)
        maps.append(module.weights(inputs[0]).float().cpu())

    gatherers = [module for module in net.modules() if isinstance(module, Attention | Average)]
    hooks = [module.register_forward_pre_hook(look) for module in gatherers]
    try:
        net.forward(idx)  # a compiled net, when called, may not notice hooks
    finally:
        for hook in hooks:
            hook.remove()
    return maps
