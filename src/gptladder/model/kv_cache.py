"""What a net keeps of a text while it writes, so that each token is thought about once."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn


class NoMemory:
    """What a part of a net has while it learns: each block is seen whole, from its start."""

    length = 0

    def with_past(self, *new: Tensor) -> tuple[Tensor, ...]:
        """The new is all there is."""
        return new

    def newest(self, made: Tensor, n_new: int) -> Tensor:
        """All that was made."""
        return made


NO_MEMORY = NoMemory()


class Memory:
    """What a part of a reading net made of the tokens read so far: keys, values and the like."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.rooms: list[Tensor] = []

    @property
    def length(self) -> int:
        """Tokens before the new ones."""
        return self.reader.length

    def with_past(self, *new: Tensor) -> tuple[Tensor, ...]:
        """What was made of the earlier tokens and of the new: ``(..., t, D)`` each, or token numbers ``(B, t)``."""
        time = 1 if new[0].dim() == 2 else -2
        start, n_new = self.reader.length, new[0].size(time)
        if not self.rooms:
            self.rooms = [_room(made, time, self.reader.block_size) for made in new]
        for room, made in zip(self.rooms, new, strict=True):
            room.narrow(time, start, n_new).copy_(made)
        return tuple([room.narrow(time, 0, start + n_new) for room in self.rooms])

    def newest(self, made: Tensor, n_new: int) -> Tensor:
        """Of what was made of all tokens, ``(B, T, C)``, that of the last few."""
        return made[:, -n_new:]


class Reader:
    """A net that reads a text piece by piece: a copy, with the same weights, whose parts have a memory.

    Args:
        net: in evaluation mode; it stays as it is.
        block_size: the most tokens that are read.
    """

    def __init__(self, net: nn.Module, block_size: int) -> None:
        self.block_size = block_size
        self.length = 0
        weights: dict[int, Any] = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
        self.net = copy.deepcopy(net, weights)
        for part in list(self.net.modules()):
            if hasattr(part, "memory"):
                part.memory = Memory(self)  # type: ignore[assignment]
            for name, child in part.named_children():
                if isinstance(child, nn.Dropout) and not child.training:
                    setattr(part, name, nn.Identity())
        # Calls go straight to `forward`, and weights are plain attributes: to look for hooks, and for weights in three
        # dictionaries, would take a quarter of a token.
        for part in self.net.modules():
            vars(part).update(part._parameters | part._buffers | part._modules)
            part._compiled_call_impl = part.forward

    def read(self, idx: Tensor) -> Tensor:
        """Logits ``(B, t, V)`` of ``t`` more tokens, ``(B, t)``, as if all before them were in the block as well.

        ``t`` is 1, or anything at the start.
        """
        logits: Tensor = self.net.forward(idx)
        self.length += idx.size(1)
        return logits


def _room(made: Tensor, time: int, size: int) -> Tensor:
    shape = list(made.shape)
    shape[time] = size
    return made.new_empty(shape)
