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
        # On a CPU a number: small tensors that outlive their batch fragment the allocator's memory, by half a gigabyte
        # with a vocabulary of 1,024. On a GPU the tensor: to read its value is to wait for it.
        self._losses.append(loss.item() if loss.device.type == "cpu" else loss)
        self._n_tokens.append(n_tokens)

    def compute(self) -> Tensor:
        """The sum of losses times tokens, and of tokens, ``(2,)`` in float64 on the CPU; processes can add theirs."""
        if not self._losses:  # of a small split another process may have every batch
            return torch.zeros(2, dtype=torch.float64)
        # On the CPU, because Apple's GPUs have no float64.
        losses = torch.tensor([float(loss) for loss in self._losses], dtype=torch.float64)
        n_tokens = torch.tensor(self._n_tokens, dtype=torch.float64)
        return torch.stack([losses @ n_tokens, n_tokens.sum()])
