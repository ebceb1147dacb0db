"""What a network does with a text, as arrays that a notebook draws."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, repr=False)
class Attention:
    """The attention weights of every layer over one prompt; ``attention[layer]`` is an array.

    Args:
        layers: one ``(H, T, T)`` float32 array per layer, each row summing to one; empty for a rung without attention.
        tokens: the ``T`` tokens as text.
    """

    layers: list[NDArray[np.float32]]
    tokens: list[str]

    def __getitem__(self, layer: int) -> NDArray[np.float32]:
        return self.layers[layer]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return iter(self.layers)

    def __repr__(self) -> str:
        shapes = ", ".join(str(weights.shape) for weights in self.layers) or "none in this rung"
        return f"Attention(layers: {shapes}; tokens: {''.join(self.tokens)!r})"

    def _repr_html_(self) -> str:
        from gptladder.api.html import attention_html

        return attention_html(self)


@dataclass(frozen=True, repr=False)
class Surprise:
    """The loss of each token of a text.

    Args:
        tokens: the ``N`` tokens as text.
        nats: ``(N,)`` float32; NaN for the first token, which is not predicted.
        block_size: the text is cut into windows of that size.
        uniform_loss: the loss of a uniform prediction, for comparison.
    """

    tokens: list[str]
    nats: NDArray[np.float32]
    block_size: int
    uniform_loss: float

    @classmethod
    def from_losses(cls, tokens: list[str], losses: NDArray[np.float32], block_size: int, vocab_size: int) -> Surprise:
        """From the losses of all tokens but the first, ``(N - 1,)``."""
        nats: NDArray[Any] = np.concatenate([[np.nan], losses]).astype(np.float32)
        return cls(tokens, nats, block_size, math.log(vocab_size))

    def __repr__(self) -> str:
        return f"Surprise({len(self.tokens)} tokens, mean {np.nanmean(self.nats):.4f} nats)"

    def _repr_html_(self) -> str:
        from gptladder.api.html import surprise_html

        return surprise_html(self)
