"""The mean loss of many batches, weighted by their tokens."""

from __future__ import annotations

import torch
from torch import Tensor


class LossAccumulator:
    """Collects mean losses of batches, and sums them in float64 at the end."""

    def __init__(self) -> None:
        self._losses: list[Tensor | float] = []
        self._n_tokens: list[int] = []

    def add(self, loss: Tensor, n_tokens: int) -> None:
        """Add the mean loss of a batch, a scalar, and the number of tokens it is the mean of."""
        # On the CPU not as a tensor: small ones that stay among the large ones of each batch keep the allocator from
        # using that memory again, half a gigabyte with 1,024 tokens. On a GPU a number would have to be awaited.
        self._losses.append(loss.item() if loss.device.type == "cpu" else loss)
        self._n_tokens.append(n_tokens)

    def compute(self) -> Tensor:
        """The sum of losses times tokens, and of tokens, ``(2,)`` in float64; processes can add theirs."""
        if not self._losses:  # of a small split another process may have every batch
            return torch.zeros(2, dtype=torch.float64)
        losses = torch.stack([torch.as_tensor(loss, dtype=torch.float64) for loss in self._losses])
        n_tokens = torch.tensor(self._n_tokens, dtype=torch.float64, device=losses.device)
        return torch.stack([losses @ n_tokens, n_tokens.sum()])
