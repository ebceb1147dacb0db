"""What a net keeps of a text while it writes, so that each token is thought about once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class NoMemory:
    """What a net has while it learns: each block is seen whole, from its start."""

    length = 0

    def with_past(self, owner: nn.Module, *new: Tensor) -> tuple[Tensor, ...]:
        """The new is all there is."""
        return new


NO_MEMORY = NoMemory()


class Memory:
    """Keys, values and the like of the tokens read so far, up to a block of them.

    Parts that look back have an attribute ``memory``: this object while ``read`` runs, ``NO_MEMORY`` otherwise.

    Args:
        net: who reads.
        block_size: the most tokens it holds.
    """

    def __init__(self, net: nn.Module, block_size: int) -> None:
        self.net = net
        self.parts = [part for part in net.modules() if hasattr(part, "memory")]
        self.block_size = block_size
        self.length = 0
        self._kept: dict[nn.Module, tuple[Tensor, ...]] = {}

    def read(self, idx: Tensor) -> Tensor:
        """Logits ``(B, t, V)`` of ``t`` more tokens, ``(B, t)``, as if all before them were in the block as well.

        ``t`` is 1, or anything at the start.
        """
        with self._lent():
            logits: Tensor = self.net.forward(idx)
        self.length += idx.size(1)
        return logits

    def with_past(self, owner: nn.Module, *new: Tensor) -> tuple[Tensor, ...]:
        """What a part made of the earlier tokens and of the new: ``(..., t, D)`` each, or token numbers ``(B, t)``."""
        if owner not in self._kept:
            self._kept[owner] = tuple(self._room(made) for made in new)
        end = self.length + new[0].size(_time(new[0]))
        for kept, made in zip(self._kept[owner], new, strict=True):
            kept.narrow(_time(made), self.length, end - self.length).copy_(made)
        return tuple(kept.narrow(_time(kept), 0, end) for kept in self._kept[owner])

    def _room(self, made: Tensor) -> Tensor:
        shape = list(made.shape)
        shape[_time(made)] = self.block_size
        return torch.empty(shape, dtype=made.dtype, device=made.device)

    @contextmanager
    def _lent(self) -> Iterator[None]:
        for part in self.parts:
            part.memory = self  # type: ignore[assignment]
        try:
            yield
        finally:
            for part in self.parts:
                part.memory = NO_MEMORY  # type: ignore[assignment]


def _time(made: Tensor) -> int:
    return 1 if made.dim() == 2 else made.dim() - 2
