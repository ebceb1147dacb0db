"""One layer of a GPT, and the residual stream that it adds to.

Dimensions in comments are those of ``gptladder.model.gpt``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Layer(nn.Module):
    """Communicate, then compute: attention gathers the past, a feed-forward thinks about it.

    Args:
        gather: builds what reads the past, ``n_embd`` channels to ``width``.
        think: builds the feed-forward, ``width`` channels to ``width``; ``None`` leaves it out.
        sublayer: puts either on the residual stream.
    """

    def __init__(
        self,
        gather: Callable[[], nn.Module],
        think: Callable[[], nn.Module] | None,
        sublayer: Callable[[nn.Module, int, int], Sublayer],
        *,
        n_embd: int,
        width: int,
    ) -> None:
        super().__init__()
        self.attention = sublayer(gather(), n_embd, width)
        self.feedforward = sublayer(think(), width, width) if think else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.feedforward(self.attention(x))
        return y


class Sublayer(nn.Module):
    """One stop on the residual stream: normalise, transform, drop out, add back."""

    def __init__(
        self,
        body: nn.Module,
        width_in: int,
        width_out: int,
        *,
        norm: Callable[[int], nn.Module],
        residual: bool,
        norm_position: str,
        dropout: float,
    ) -> None:
        super().__init__()
        self.pre_norm = norm(width_in) if norm_position == "pre" else nn.Identity()
        self.body = body
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.join = torch.add if residual else replaced
        self.post_norm = norm(width_out) if norm_position == "post" else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.post_norm(self.join(x, self.dropout(self.body(self.pre_norm(x)))))
        return y


def replaced(x: Tensor, y: Tensor) -> Tensor:
    """No residual path (He et al. 2015), which would add what a sublayer found to what was known."""
    return y


def projected(gather: Callable[[], nn.Module], projection: Callable[[], nn.Module]) -> nn.Sequential:
    """What the heads found, mixed (Vaswani et al. 2017)."""
    return nn.Sequential(gather(), projection())


def feedforward(
    width: int, expansion: int, linear: Callable[[int, int], nn.Module], activation: Callable[[], nn.Module]
) -> nn.Sequential:
    """Each position thinks on its own: widen, bend, and back; unwidened, there is nothing to bring back."""
    if expansion == 1:
        return nn.Sequential(linear(width, width), activation())
    return nn.Sequential(linear(width, expansion * width), activation(), linear(expansion * width, width))
