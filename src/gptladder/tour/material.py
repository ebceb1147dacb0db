"""What every chapter works on: Tiny Shakespeare, its tokens and splits, and the notebooks' settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gptladder.data.batches import Batch, RandomBatches
from gptladder.data.text import tiny_shakespeare_corpus
from gptladder.data.token_cache import encode_splits
from gptladder.data.tokenizer import CharTokenizer

SEED = 1337
SPLIT = 0.9
BLOCK_SIZE = 8
BATCH_SIZE = 4  # of the batch that is looked at; the bigram trains on larger ones


@dataclass(frozen=True)
class Material:
    """The text as tokens, ``(N,)``, and its two splits."""

    tokenizer: CharTokenizer
    tokens: Tensor
    train: Tensor
    val: Tensor

    def batches(self, *, batch_size: int) -> RandomBatches:
        """Training batches from torch's global stream, as the notebooks draw them."""
        return RandomBatches(self.train, block_size=BLOCK_SIZE, batch_size=batch_size, generator=None)

    def batch(self) -> Batch:
        """One batch of four blocks."""
        return next(iter(self.batches(batch_size=BATCH_SIZE)))

    def seen(self, tokens: Tensor | list[int]) -> str:
        """Tokens as a reader can see them: the text between quotes, line ends escaped."""
        return repr(self.tokenizer.decode(tokens))


@cache
def material() -> Material:
    """Tiny Shakespeare, encoded and split once for all chapters."""
    splits = tiny_shakespeare_corpus().split(SPLIT)
    tokenizer = CharTokenizer.from_text(*splits)
    train, val = encode_splits(*splits, tokenizer)
    return Material(tokenizer, torch.cat([train, val]), train, val)
