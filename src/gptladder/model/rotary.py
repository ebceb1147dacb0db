"""Places told by rotation instead of by addition."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from gptladder.model.kv_cache import NO_MEMORY, Memory, NoMemory

# The slowest pair turns once in about this many positions (times 2 pi), as in the paper.
BASE = 10_000.0


class Rotary(nn.Module):
    """Turns each pair of channels by an angle that grows with the place: scores then depend on distances alone.

    ``(..., T, D)`` to the same, ``T <= block_size``, ``D`` even; made for queries and keys, never for values.
    Su et al. 2021, "RoFormer".
    """

    def __init__(self, *, block_size: int, head_size: int) -> None:
        super().__init__()
        self.memory: Memory | NoMemory = NO_MEMORY
        frequency = BASE ** -torch.linspace(0, 1, head_size // 2 + 1)[:-1]
        angle = torch.outer(torch.arange(block_size), frequency)  # (T, D/2)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", angle.cos().repeat(1, 2), persistent=False)
        self.register_buffer("sin", torch.cat([-angle.sin(), angle.sin()], dim=1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        here = slice(self.memory.length, self.memory.length + x.size(-2))
        cos, sin = self.cos[here], self.sin[here]
        return x * cos + x.roll(x.size(-1) // 2, dims=-1) * sin
