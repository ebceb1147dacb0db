"""Input embeddings: the token, its position, and optionally the tokens just before it.

Dimensions in comments are those of ``gptladder.model.gpt``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gptladder.model.kv_cache import KVCache


class InputEmbedding(nn.Module):
    """The sum of all embeddings of a token.

    Args:
        vocab_size, block_size, n_embd: ``V``, the longest ``T``, ``C``.
        positions: add a learned embedding of the position.
        n_prev_tokens: add embeddings of that many previous tokens.
        bigram_embedding: add an embedding of the pair of the previous token and the token.
    """

    def __init__(
        self,
        vocab_size: int,
        block_size: int,
        n_embd: int,
        *,
        positions: bool,
        n_prev_tokens: int = 0,
        bigram_embedding: bool = False,
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, n_embd)
        self.position = nn.Embedding(block_size, n_embd) if positions else None
        self.previous = PreviousTokenEmbedding(vocab_size, n_embd, n_prev_tokens) if n_prev_tokens else None
        self.bigram = BigramEmbedding(vocab_size, n_embd) if bigram_embedding else None

    def forward(self, idx: Tensor, cache: KVCache | None = None) -> Tensor:
        x: Tensor = self.token(idx)  # (B, T) -> (B, T, C)
        if self.position is not None:
            start = cache.length if cache is not None else 0
            x = x + self.position.weight[start : start + idx.size(1)]
        if self.previous is not None:
            x = x + self.previous(idx, cache)
        if self.bigram is not None:
            x = x + self.bigram(idx, cache)
        return x


class PreviousTokenEmbedding(nn.Module):
    """A learned vector for each of the ``n`` previous tokens, one table per distance, summed.

    The first layer then need not learn to attend one and two tokens back. Each table has one more row, for positions
    before the start of the window.
    """

    def __init__(self, vocab_size: int, n_embd: int, n_prev_tokens: int) -> None:
        super().__init__()
        self.pad_token = vocab_size
        self.n_prev_tokens = n_prev_tokens
        self.table = nn.Embedding(n_prev_tokens * (vocab_size + 1), n_embd)
        self.row_offsets: Tensor
        self.register_buffer("row_offsets", torch.arange(n_prev_tokens) * (vocab_size + 1), persistent=False)

    def forward(self, idx: Tensor, cache: KVCache | None = None) -> Tensor:
        (tokens,) = cache.update(self, idx) if cache is not None else (idx,)
        previous = F.pad(tokens[:, :-1], (self.n_prev_tokens, 0), value=self.pad_token)
        previous = previous[:, -(self.n_prev_tokens + idx.size(1) - 1) :]  # (B, n_prev_tokens + T - 1)
        rows = self.row_offsets + previous.unfold(1, self.n_prev_tokens, 1)  # (B, T, n_prev_tokens)
        x: Tensor = self.table(rows).sum(dim=2)  # (B, T, n_prev_tokens, C) -> (B, T, C)
        return x


class BigramEmbedding(nn.Module):
    """A learned vector for each pair of a previous token and a token.

    One row per pair, and one per token for pairs with what came before the window. Huang et al. 2025, "Over-Tokenized
    Transformer", with one order of n-gram and without hashing.
    """

    def __init__(self, vocab_size: int, n_embd: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.table = nn.Embedding((vocab_size + 1) * vocab_size, n_embd)

    def forward(self, idx: Tensor, cache: KVCache | None = None) -> Tensor:
        (tokens,) = cache.update(self, idx) if cache is not None else (idx,)
        previous = F.pad(tokens[:, :-1], (1, 0), value=self.vocab_size)[:, -idx.size(1) :]  # (B, T)
        x: Tensor = self.table(previous * self.vocab_size + idx)  # (B, T) -> (B, T, C)
        return x
