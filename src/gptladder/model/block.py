"""A transformer block, its feed-forward and the activations.

Dimensions in comments are those of ``gptladder.model.gpt``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from gptladder.model.kv_cache import KVCache


class Block(nn.Module):
    """Attention, then a feed-forward; each is normalized, dropped out and added to the residual stream.

    ``(B, T, n_embd)`` to ``(B, T, width)``.

    Args:
        attention: ``n_embd`` channels to ``width``.
        mlp: ``width`` channels to ``width``; ``None`` leaves the feed-forward out.
        n_embd, width: channels of the input and of the output; equal where anything is added.
        norm: builds a normalization from a number of channels.
        norm_position: normalize ``pre`` (before each sublayer), ``post`` (after it), or ``none``.
        residual: add each sublayer's output to its input (He et al. 2015) instead of replacing it.
        dropout: on the output of each sublayer.
    """

    def __init__(
        self,
        attention: nn.Module,
        mlp: nn.Sequential | None,
        *,
        n_embd: int,
        width: int,
        norm: Callable[[int], nn.Module],
        norm_position: str,
        residual: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.residual = residual
        self.norm1 = norm(n_embd) if norm_position == "pre" else nn.Identity()
        self.attention = attention
        self.post_norm1 = norm(width) if norm_position == "post" else nn.Identity()
        self.norm2 = norm(width) if norm_position == "pre" and mlp is not None else nn.Identity()
        self.mlp = mlp
        self.post_norm2 = norm(width) if norm_position == "post" and mlp is not None else nn.Identity()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor, cache: KVCache | None = None) -> Tensor:
        y = self.dropout(self.attention(self.norm1(x), cache))
        x = self.post_norm1(x + y if self.residual else y)
        if self.mlp is not None:
            y = self.dropout(self.mlp(self.norm2(x)))
            x = self.post_norm2(x + y if self.residual else y)
        return x


def build_mlp(
    width: int, expansion: int, activation: str, *, bias: bool, hidden_size: int | None = None
) -> nn.Sequential | None:
    """The feed-forward of each position: linear, activation, linear; with ``swiglu``: gated linear, linear.

    Args:
        width: channels of its input and its output.
        expansion: hidden channels in multiples of ``width``; 1 is the lecture's first version, a single linear with
            its activation; 0 is no feed-forward. ``swiglu`` has two thirds of them: its three matrices then hold as
            many weights as the two of the others (Shazeer 2020).
        hidden_size: hidden channels, instead of ``expansion``.
    """
    linear = partial(nn.Linear, bias=bias)
    if expansion == 0:
        return None
    if activation == "swiglu":
        hidden = hidden_size or round(expansion * width * 2 / 3)
        return nn.Sequential(SwiGLU(width, hidden, bias=bias), linear(hidden, width))
    if expansion == 1 and hidden_size is None:
        return nn.Sequential(linear(width, width), ACTIVATIONS[activation]())
    hidden = hidden_size or expansion * width
    return nn.Sequential(linear(width, hidden), ACTIVATIONS[activation](), linear(hidden, width))


class SwiGLU(nn.Module):
    """A linear whose every output channel is scaled by a gate, the SiLU of another linear.

    ``(..., width)`` to ``(..., hidden)``. Shazeer 2020, "GLU Variants Improve Transformer".
    """

    def __init__(self, width: int, hidden: int, *, bias: bool) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=bias)
        self.up = nn.Linear(width, hidden, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = F.silu(self.gate(x)) * self.up(x)
        return gated


class SquaredReLU(nn.Module):
    """ReLU, squared (So et al. 2021, "Primer")."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu().square()


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "gelu_tanh": partial(nn.GELU, approximate="tanh"),  # as OpenAI's GPT-2 computes it
    "relu2": SquaredReLU,
}
