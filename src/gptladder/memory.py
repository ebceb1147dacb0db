"""What a net keeps of a text while it writes, so that each token is thought about once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


class NoMemory:
    """What a net has while it learns: each block is seen whole, from its start."""

    length = 0

    def with_past(self, owner: nn.Module, *new: Tensor) -> tuple[Tensor, ...]:
        """The new is all there is."""
        return new

    def newest(self, made: Tensor, n_new: int) -> Tensor:
        """All that was made."""
        return made


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
        time = 1 if new[0].dim() == 2 else -2
        n_new = new[0].size(time)
        if owner not in self._kept:
            self._kept[owner] = tuple(_room(made, time, self.block_size) for made in new)
        kept = self._kept[owner]
        for room, made in zip(kept, new, strict=True):
            room.narrow(time, self.length, n_new).copy_(made)
        return tuple([room.narrow(time, 0, self.length + n_new) for room in kept])

    def newest(self, made: Tensor, n_new: int) -> Tensor:
        """Of what was made of all tokens, ``(B, T, C)``, that of the last few."""
        return made[:, -n_new:]

    @contextmanager
    def _lent(self) -> Iterator[None]:
        # Past what torch does when a module is given an attribute, which would take a twentieth of each token.
        for part in self.parts:
            vars(part)["memory"] = self
        try:
            yield
        finally:
            for part in self.parts:
                vars(part)["memory"] = NO_MEMORY


def _room(made: Tensor, time: int, size: int) -> Tensor:
    shape = list(made.shape)
    shape[time] = size
    return made.new_empty(shape)
