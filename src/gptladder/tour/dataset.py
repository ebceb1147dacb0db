"""The data of all chapters: Tiny Shakespeare as tokens and splits, and the notebooks' settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gptladder.data.text import tiny_shakespeare_corpus
from gptladder.data.token_cache import encode_splits
from gptladder.data.tokenizer import CharTokenizer
from gptladder.data.training_batches import RandomBatches
from gptladder.data.windows import Batch

SEED = 1337
TRAIN_FRACTION = 0.9
BLOCK_SIZE = 8
BATCH_SIZE = 4  # of the batch that is printed; the bigram is trained on larger ones


@dataclass(frozen=True)
class Dataset:
    """The text as tokens, ``(N,)``, and its two splits."""

    tokenizer: CharTokenizer
    tokens: Tensor
    train: Tensor
    val: Tensor

    def batches(self, *, batch_size: int) -> RandomBatches:
        """Training batches from torch's global generator, as in the notebooks."""
        return RandomBatches(self.train, block_size=BLOCK_SIZE, batch_size=batch_size, generator=None)

    def sample_batch(self) -> Batch:
        """Sample one batch of four blocks."""
        return next(iter(self.batches(batch_size=BATCH_SIZE)))

    def show_tokens(self, tokens: Tensor | list[int]) -> str:
        """Decode tokens to text in quotes, with line breaks escaped."""
        return repr(self.tokenizer.decode(tokens))


@cache
def load_dataset() -> Dataset:
    """Encode and split Tiny Shakespeare, once for all chapters."""
    splits = tiny_shakespeare_corpus().split(TRAIN_FRACTION)
    tokenizer = CharTokenizer.from_text(*splits)
    train, val = encode_splits(*splits, tokenizer)
    return Dataset(tokenizer, torch.cat([train, val]), train, val)
