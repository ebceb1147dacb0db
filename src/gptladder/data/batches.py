"""Blocks: windows of ``block_size`` tokens (``x``) and, one further on, what follows each of them (``y``).

Every class here is a supply of batches: ``(x, y)`` pairs of ``(B, T)`` int64 tensors, cut from a split by one
vectorised gather.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

Batch = tuple[Tensor, Tensor]

# Tokens in one forward of an evaluation: large enough to drown the cost of a call, small enough for the cache.
TOKENS_PER_FORWARD = 4_096
# Of a large vocabulary the logits are what fills the memory; so many take 64 MB.
LOGITS_PER_FORWARD = 2**24


class RandomBatches:
    """Training batches at random places, without end, drawn in the order in which the lecture's loop draws them.

    Args:
        tokens: an encoded split.
        block_size: ``T``.
        batch_size: ``B``, the blocks of one batch over all processes.
        generator: where offsets come from; ``None`` is torch's global generator (the published stream).
        only: draw among so many blocks, spread evenly over the split; ``None`` draws among all there are.
        rank, world_size: every process draws the global batch and keeps its own share.
    """

    def __init__(
        self,
        tokens: Tensor,
        *,
        block_size: int,
        batch_size: int,
        generator: torch.Generator | None,
        only: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.windows = _windows(tokens, block_size, only)
        self.batch_size = batch_size
        self.generator = generator
        self.share = _share(batch_size, rank, world_size)
        self.offsets = torch.empty(0, dtype=torch.long)  # of the latest batch of all processes

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield from self.draw(1)

    def draw(self, n_batches: int) -> Iterator[Batch]:
        """So many more, drawn at once: those of one draw after another, if nothing else draws in between.

        Of a long text every block is far from the last one; fetched together they do not wait for each other.
        """
        offsets = _draw(self.windows, n_batches * self.batch_size, self.generator).view(n_batches, self.batch_size)
        x, y = _gather(self.windows, offsets[:, self.share])  # (n_batches, B, T)
        for i in range(n_batches):
            self.offsets = offsets[i]
            yield x[i], y[i]


class ShuffledBatches:
    """Training batches that show all of a split before they show any of it again.

    Each epoch cuts the split into consecutive blocks, beginning at another place, and shuffles them. Of as many blocks
    drawn at random a third would be places seen before.

    Args:
        tokens, block_size, batch_size, only, rank, world_size: as of ``RandomBatches``.
        seed: of the cuts and the order.
        first: batches that went before, of a training that is resumed.
    """

    def __init__(
        self,
        tokens: Tensor,
        *,
        block_size: int,
        batch_size: int,
        seed: int,
        first: int = 0,
        only: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.windows = _windows(tokens, block_size, only)
        self.stride = 1 if only else block_size
        self.n_blocks = max(1, len(self.windows) // self.stride)  # of one epoch, wherever it begins
        self.batch_size = batch_size
        self.seed = seed
        self.first = first
        self.share = _share(batch_size, rank, world_size)
        self.offsets = torch.empty(0, dtype=torch.long)  # of the latest batch of all processes

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self.seed)
        n_epochs, n_blocks = divmod(self.first * self.batch_size, self.n_blocks)
        for _ in range(n_epochs):
            self._epoch(generator)
        waiting = self._epoch(generator)[n_blocks:]
        while True:
            while len(waiting) < self.batch_size:
                waiting = torch.cat([waiting, self._epoch(generator)])
            self.offsets, waiting = waiting[: self.batch_size], waiting[self.batch_size :]
            yield _gather(self.windows, self.offsets[self.share])

    def _epoch(self, generator: torch.Generator) -> Tensor:
        """Where the blocks of one epoch begin, in its order."""
        start = torch.randint(min(self.stride, len(self.windows)), (1,), generator=generator)
        return start + self.stride * torch.randperm(self.n_blocks, generator=generator)


class SequenceLengthWarmup:
    """Training batches whose blocks are cut into shorter ones at first: cheaper, and quicker to learn from.

    Sequence length warm-up (Li et al. 2022, "The Stability-Efficiency Dilemma"). A batch has the same tokens as ever.

    Args:
        blocks: whose batches are cut.
        sizes: for each shorter block size, which divides ``block_size``, the batches until which it holds.
        first: batches that went before, of a training that is resumed.
    """

    def __init__(self, blocks: RandomBatches | ShuffledBatches, *, sizes: dict[int, int], first: int = 0) -> None:
        self.blocks = blocks
        self.sizes = sorted(sizes.items())
        self.first = first

    @property
    def offsets(self) -> Tensor:
        """Of the latest batch of all processes, before it is cut."""
        return self.blocks.offsets

    def __iter__(self) -> Iterator[Batch]:
        for n, (x, y) in enumerate(self.blocks, start=self.first):
            size = next((size for size, until in self.sizes if n < until), x.size(1))
            yield x.reshape(-1, size), y.reshape(-1, size)


TrainBatches = RandomBatches | ShuffledBatches | SequenceLengthWarmup


class EstimateBatches:
    """The random batches of one estimate, regrouped into few large ones.

    One long draw gives the same offsets as many short ones in a row, so the published stream is kept.
    """

    def __init__(
        self,
        tokens: Tensor,
        *,
        block_size: int,
        batch_size: int,
        n_batches: int,
        generator: torch.Generator | None,
        vocab_size: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.windows = _windows(tokens, block_size)
        self.n_blocks = batch_size * n_batches
        self.generator = generator
        self.share = slice(rank, None, world_size)
        self.blocks_per_forward = _blocks_per_forward(block_size, vocab_size)

    def __len__(self) -> int:
        n_own = len(range(self.n_blocks)[self.share])
        return -(-n_own // self.blocks_per_forward)

    def __iter__(self) -> Iterator[Batch]:
        offsets = _draw(self.windows, self.n_blocks, self.generator)[self.share]
        for some in torch.split(offsets, self.blocks_per_forward):
            yield _gather(self.windows, some)


class SequentialBatches:
    """A whole split from end to end, each token but the first predicted exactly once.

    Full blocks come in large batches without a copy of the split; the short last block comes alone.
    """

    def __init__(
        self, tokens: Tensor, *, block_size: int, vocab_size: int = 1, rank: int = 0, world_size: int = 1
    ) -> None:
        n_full = (len(tokens) - 1) // block_size * block_size
        x, y = tokens[:n_full].view(-1, block_size), tokens[1 : n_full + 1].view(-1, block_size)
        blocks_per_forward = _blocks_per_forward(block_size, vocab_size)
        batches = (
            list(zip(torch.split(x, blocks_per_forward), torch.split(y, blocks_per_forward), strict=True))
            if n_full
            else []
        )
        if n_full < len(tokens) - 1:
            batches.append((tokens[n_full:-1].unsqueeze(0), tokens[n_full + 1 :].unsqueeze(0)))
        self.batches = batches[rank::world_size]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        return ((x.long(), y.long()) for x, y in self.batches)


def split_tokens(tokens: Tensor, split: float) -> tuple[Tensor, Tensor]:
    """The front of a text for training and the tail for validation, without a copy."""
    n_train = int(split * len(tokens))
    return tokens[:n_train], tokens[n_train:]


def _windows(tokens: Tensor, block_size: int, only: int | None = None) -> Tensor:
    """Every place where a block and its successor fit, ``(len - block_size, block_size + 1)``, without a copy.

    With ``only``, so many of them, spread evenly.
    """
    windows = tokens.unfold(0, block_size + 1, 1)
    return windows if only is None else windows[torch.linspace(0, len(windows) - 1, only).long()]


def _share(batch_size: int, rank: int, world_size: int) -> slice:
    """The blocks of a batch that one of several processes sees."""
    n_own = batch_size // world_size
    return slice(rank * n_own, (rank + 1) * n_own)


def _blocks_per_forward(block_size: int, vocab_size: int) -> int:
    return max(1, min(TOKENS_PER_FORWARD, LOGITS_PER_FORWARD // vocab_size) // block_size)


def _draw(windows: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    return torch.randint(len(windows), (n,), generator=generator)


def _gather(windows: Tensor, offsets: Tensor) -> Batch:
    block = windows[offsets].long()  # (..., B) -> (..., B, T + 1)
    return block[..., :-1], block[..., 1:]
