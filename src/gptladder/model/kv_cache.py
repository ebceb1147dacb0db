"""A KV cache: what a network computed for earlier tokens, so that generation computes each token once."""

from __future__ import annotations

from torch import Tensor, nn


class KVCache:
    """What the modules of a network need from earlier tokens: keys, values, token numbers.

    It is passed to ``forward`` with the tokens that follow those seen so far, one or several, and each module keeps its
    tensors in it under itself.

    Args:
        block_size: the maximum number of tokens.

    Attributes:
        length: the number of tokens seen so far; their positions are ``0`` to ``length - 1``.
    """

    def __init__(self, block_size: int) -> None:
        self.block_size = block_size
        self.length = 0
        self._buffers: dict[nn.Module, list[Tensor]] = {}

    def buffers(self, module: nn.Module) -> list[Tensor]:
        """The memory that a module's tensors are kept in, ``(..., block_size, D)`` or ``(B, block_size)`` each."""
        return self._buffers[module]

    def update(self, module: nn.Module, *new: Tensor) -> tuple[Tensor, ...]:
        """Append a module's tensors of the new tokens, and return those of all tokens so far.

        Args:
            module: the module that they belong to.
            new: ``(..., t, D)`` each, or token numbers ``(B, t)``.
        """
        time = 1 if new[0].dim() == 2 else -2
        n_new = new[0].size(time)
        if module not in self._buffers:
            self._buffers[module] = [_allocate(tensor, time, self.block_size) for tensor in new]
        buffers = self._buffers[module]
        for buffer, tensor in zip(buffers, new, strict=True):
            buffer.narrow(time, self.length, n_new).copy_(tensor)
        return tuple([buffer.narrow(time, 0, self.length + n_new) for buffer in buffers])


def _allocate(tensor: Tensor, time: int, size: int) -> Tensor:
    shape = list(tensor.shape)
    shape[time] = size
    return tensor.new_empty(shape)
