"""Batches for evaluation: the random ones of an estimate, and a whole split."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from gptladder.data.windows import Batch, all_windows, sample_offsets, slice_windows

# Tokens per forward pass: enough to hide the cost of a call, and on a CPU few enough for its cache.
TOKENS_PER_FORWARD = 4_096
TOKENS_PER_GPU_FORWARD = 65_536
# With a large vocabulary the logits fill the memory; this many take 64 MB.
LOGITS_PER_FORWARD = 2**24


class EstimateBatches:
    """The random batches of one estimate, regrouped into a few large ones.

    One long draw gives the same offsets as many short ones in a row, so the published stream is kept.

    Args:
        tokens, block_size, batch_size, generator, rank, world_size: as for ``RandomBatches``.
        n_batches: of ``batch_size`` windows.
        vocab_size, tokens_per_forward: as for ``SequentialBatches``.

    Attributes:
        metric: what a ``LanguageModel`` calls the loss on these batches.
    """

    metric: str | None = None

    def __init__(
        self,
        tokens: Tensor,
        *,
        block_size: int,
        batch_size: int,
        n_batches: int,
        generator: torch.Generator | None,
        vocab_size: int,
        tokens_per_forward: int = TOKENS_PER_FORWARD,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.windows = all_windows(tokens, block_size)
        self.n_windows = batch_size * n_batches
        self.generator = generator
        self.windows_per_forward = _windows_per_forward(block_size, vocab_size, tokens_per_forward)
        self._rank_slice = slice(rank, None, world_size)

    def __len__(self) -> int:
        n_own = len(range(self.n_windows)[self._rank_slice])
        return -(-n_own // self.windows_per_forward)

    def __iter__(self) -> Iterator[Batch]:
        offsets = sample_offsets(self.windows, self.n_windows, self.generator)[self._rank_slice]
        for chunk in torch.split(offsets, self.windows_per_forward):
            yield slice_windows(self.windows, chunk)


class SequentialBatches:
    """A whole split from start to end; each token but the first is predicted exactly once.

    Full windows come in large batches without a copy of the split; the short last window comes alone.

    Args:
        tokens, block_size, rank, world_size: as for ``RandomBatches``.
        vocab_size: ``V``; a large one makes the batches smaller, because logits fill the memory.
        tokens_per_forward: in a batch, at most, but at least one window.

    Attributes:
        metric: what a ``LanguageModel`` calls the loss on these batches.
    """

    metric: str | None = None

    def __init__(
        self,
        tokens: Tensor,
        *,
        block_size: int,
        vocab_size: int,
        tokens_per_forward: int = TOKENS_PER_FORWARD,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        n_full = (len(tokens) - 1) // block_size * block_size
        x, y = tokens[:n_full].view(-1, block_size), tokens[1 : n_full + 1].view(-1, block_size)
        size = _windows_per_forward(block_size, vocab_size, tokens_per_forward)
        batches = list(zip(torch.split(x, size), torch.split(y, size), strict=True)) if n_full else []
        if n_full < len(tokens) - 1:
            batches.append((tokens[n_full:-1].unsqueeze(0), tokens[n_full + 1 :].unsqueeze(0)))
        self.batches = batches[rank::world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return ((x.long(), y.long()) for x, y in self.batches)


def _windows_per_forward(block_size: int, vocab_size: int, tokens_per_forward: int) -> int:
    return max(1, min(tokens_per_forward, LOGITS_PER_FORWARD // vocab_size) // block_size)
