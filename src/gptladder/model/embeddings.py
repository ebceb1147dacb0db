"""What a position starts from: its token, its place, and what stood just before it.

Dimensions in comments are those of ``gptladder.model.gpt``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptladder.model.kv_cache import NO_MEMORY, Memory, NoMemory


class TokenEmbedding(nn.Module):
    """What a token is, plus where it stands."""

    def __init__(self, vocab_size: int, block_size: int, n_embd: int, *, positions: bool) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, n_embd)
        self.position = AddPosition(block_size, n_embd) if positions else nn.Identity()

    def forward(self, idx: Tensor) -> Tensor:
        x: Tensor = self.position(self.token(idx))  # (B, T) -> (B, T, C)
        return x


class AddPosition(nn.Module):
    """Adds a learnt vector for each place in the block."""

    def __init__(self, block_size: int, n_embd: int) -> None:
        super().__init__()
        self.table = nn.Embedding(block_size, n_embd)
        self.memory: Memory | NoMemory = NO_MEMORY

    def forward(self, x: Tensor) -> Tensor:
        start = self.memory.length
        return x + self.table.weight[start : start + x.size(1)]


class WithPrevious(nn.Module):
    """Adds to each token's embedding a learnt vector of each token just before it: an n-gram to start from.

    A table a distance, with one more row that stands for what came before the block. It saves the first layer from
    learning to look one and two back, and costs a look-up.

    Args:
        here: gives ``(B, T, C)`` for ``(B, T)`` token numbers.
        n_previous: how far back.
    """

    def __init__(self, here: nn.Module, vocab_size: int, n_embd: int, *, n_previous: int) -> None:
        super().__init__()
        self.here = here
        self.nothing = vocab_size
        self.n_previous = n_previous
        self.table = nn.Embedding(n_previous * (vocab_size + 1), n_embd)
        self.first_row: Tensor
        self.register_buffer("first_row", torch.arange(n_previous) * (vocab_size + 1), persistent=False)
        self.memory: Memory | NoMemory = NO_MEMORY

    def forward(self, idx: Tensor) -> Tensor:
        (seen,) = self.memory.with_past(idx)
        before = F.pad(seen[:, :-1], (self.n_previous, 0), value=self.nothing)
        before = before[:, -(self.n_previous + idx.size(1) - 1) :]  # (B, n_previous + T - 1)
        rows = self.first_row + before.unfold(1, self.n_previous, 1)  # (B, T, n_previous)
        x: Tensor = self.here(idx) + self.table(rows).sum(dim=2)  # (B, T, n_previous, C) -> (B, T, C)
        return x


class WithPairs(nn.Module):
    """Adds to each token's embedding a learnt vector of the pair that it makes with the token before it.

    What a sum of two embeddings cannot say without a layer's help. One row a pair, and one a token for the pair with
    what came before the block.

    Args:
        here: gives ``(B, T, C)`` for ``(B, T)`` token numbers.

    Huang et al. 2025, "Over-Tokenized Transformer", with one order of n-gram and no hashing.
    """

    def __init__(self, here: nn.Module, vocab_size: int, n_embd: int) -> None:
        super().__init__()
        self.here = here
        self.vocab_size = vocab_size
        self.table = nn.Embedding((vocab_size + 1) * vocab_size, n_embd)
        self.memory: Memory | NoMemory = NO_MEMORY

    def forward(self, idx: Tensor) -> Tensor:
        (seen,) = self.memory.with_past(idx)
        before = F.pad(seen[:, :-1], (1, 0), value=self.vocab_size)[:, -idx.size(1) :]  # (B, T)
        x: Tensor = self.here(idx) + self.table(before * self.vocab_size + idx)  # (B, T) -> (B, T, C)
        return x
