"""Rotary position embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RotaryEmbedding(nn.Module):
    """Rotates each pair of channels by an angle proportional to the position, so that scores depend on distances.

    ``(..., T, D)`` to the same, ``T <= block_size``, ``D`` even; for queries and keys, not for values. Channel ``i`` is
    paired with channel ``i + D/2``, and turned by ``theta ** (-2i / D)`` radians per position, as in Llama.

    Su et al. 2021, "RoFormer".
    """

    def __init__(self, *, block_size: int, head_size: int, theta: float = 10_000.0) -> None:
        super().__init__()
        frequency = 1 / theta ** (torch.arange(0, head_size, 2) / head_size)  # (D/2,)
        angle = torch.outer(torch.arange(block_size), frequency)  # (T, D/2)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", angle.cos().repeat(1, 2), persistent=False)
        self.register_buffer("sin", torch.cat([-angle.sin(), angle.sin()], dim=1), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Rotate; ``start`` is the position of the first token."""
        positions = slice(start, start + x.size(-2))
        cos, sin = self.cos[positions], self.sin[positions]
        return x * cos + x.roll(x.size(-1) // 2, dims=-1) * sin
