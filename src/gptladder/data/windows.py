"""Windows of ``block_size`` tokens and their next token, sliced from a split by one vectorized look-up."""

from __future__ import annotations

import torch
from torch import Tensor

# Tokens (``x``), and for each the token that follows it (``y``): ``(B, T)`` int64 each.
Batch = tuple[Tensor, Tensor]


def all_windows(tokens: Tensor, block_size: int, max_windows: int | None = None) -> Tensor:
    """Every window with its next token, ``(len - block_size, block_size + 1)``, without a copy.

    With ``max_windows``, only that many, spread evenly.
    """
    windows = tokens.unfold(0, block_size + 1, 1)
    return windows if max_windows is None else windows[torch.linspace(0, len(windows) - 1, max_windows).long()]


def sample_offsets(windows: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """``n`` random offsets; without a generator from torch's global one."""
    return torch.randint(len(windows), (n,), generator=generator)


def slice_windows(windows: Tensor, offsets: Tensor) -> Batch:
    """The windows at some offsets, ``(..., B)``, as ``x`` and ``y`` of ``(..., B, T)`` int64 each."""
    window = windows[offsets].long()  # (..., B) -> (..., B, T + 1)
    return window[..., :-1], window[..., 1:]
