"""Chapter 6: weights that depend on what is there: one head of self-attention."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gptladder.model.attention import Attention
from gptladder.tour.averages import weights as mean_weights
from gptladder.tour.board import Board
from gptladder.tour.material import BLOCK_SIZE, SEED
from gptladder.tour.pictures import maps

SHAPE = (4, BLOCK_SIZE, 32)
HEAD_SIZE = 16


@dataclass(frozen=True)
class Head:
    """One head's weights, ``(B, T, T)``, and what it gathers, ``(B, T, D)``."""

    weights: Tensor
    out: Tensor


def head() -> Head:
    """A head on the ``(4, 8, 32)`` input of seed 1337, its scores undivided, as the lecture first has it.

    The layers draw their weights after the input, in the order key, query, value.
    """
    torch.manual_seed(SEED)
    x = torch.randn(SHAPE)
    attention = Attention(
        x.size(2), block_size=BLOCK_SIZE, n_head=1, head_size=HEAD_SIZE, scale=False, dropout=0.0
    ).requires_grad_(False)
    return Head(attention.weights(x)[:, 0], attention(x))


def show(board: Board) -> None:
    """Print what the head gathers from, for the first sequence."""
    found = head()
    board.say(
        "Each position sends out a query (what do I look for?) and a key (what do I hold?). Where they agree, the "
        "weight is large, and the value of that position is gathered. Look at a row: it sums to one, is zero on the "
        "future, and is no longer even."
    )
    board.facts(x=list(SHAPE), gathered=list(found.out.shape))
    board.matrix("weights of the first sequence: row looks at column", found.weights[0])
    last = found.weights[0, -1]
    board.say(
        f"The last position looks most at position {int(last.argmax()) + 1} ({last.max():.4f}) and least at "
        f"{int(last.argmin()) + 1} ({last.min():.4f}); each other sequence of the batch has weights of its own."
    )
    panels = {"a mean cannot choose": mean_weights(BLOCK_SIZE), "a head can": found.weights[0]}
    board.picture("weights", lambda: maps(panels, [str(t + 1) for t in range(BLOCK_SIZE)]))
