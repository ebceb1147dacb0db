"""Endless streams of training batches, and a loader with a length around them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Protocol, Self

import torch
from torch import Tensor

from gptladder.data.windows import Batch, all_windows, sample_offsets, slice_windows


class TrainBatches(Protocol):
    """An endless stream of training batches.

    ``n_drawn`` counts the batches, also those before a resume; ``offsets`` are the offsets in the training split of the
    windows of the latest batch, over all processes.
    """

    @property
    def n_drawn(self) -> int:
        """Batches drawn so far."""
        ...

    @property
    def offsets(self) -> Tensor:
        """Window offsets of the latest batch."""
        ...

    def __iter__(self) -> Self:
        """Return itself: there is one stream."""
        ...

    def __next__(self) -> Batch:
        """The next batch."""
        ...


class RandomBatches:
    """Training batches at random offsets, drawn in the order in which the lecture's loop draws them.

    Args:
        tokens: an encoded split.
        block_size: ``T``.
        batch_size: ``B``, the windows of one batch over all processes.
        generator: where offsets come from; ``None`` is torch's global generator (the published stream).
        max_windows: sample from that many windows, spread evenly over the split; ``None`` samples from all.
        n_drawn: batches drawn before a resume.
        rank, world_size: every process draws the global batch and keeps its own slice.
    """

    def __init__(
        self,
        tokens: Tensor,
        *,
        block_size: int,
        batch_size: int,
        generator: torch.Generator | None,
        max_windows: int | None = None,
        n_drawn: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.windows = all_windows(tokens, block_size, max_windows)
        self.batch_size = batch_size
        self.generator = generator
        self.n_drawn = n_drawn
        self.offsets = torch.empty(0, dtype=torch.long)
        self._rank_slice = _rank_slice(batch_size, rank, world_size)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        return next(self.sample(1))

    def sample(self, n_batches: int) -> Iterator[Batch]:
        """Draw several batches in one call: the same as one by one, if nothing else draws in between.

        In a long text every window is far from the last one; fetched together they do not wait for each other.
        """
        offsets = sample_offsets(self.windows, n_batches * self.batch_size, self.generator).view(
            n_batches, self.batch_size
        )
        x, y = slice_windows(self.windows, offsets[:, self._rank_slice])  # (n_batches, B, T)
        for i in range(n_batches):
            self.offsets = offsets[i]
            self.n_drawn += 1
            yield x[i], y[i]


class ShuffledBatches:
    """Training batches that cover the whole split before any window comes again.

    Each epoch cuts the split into consecutive windows, starting at another offset, and shuffles them. As many windows
    drawn at random would leave out more than a third of the text.

    Args:
        tokens, block_size, batch_size, max_windows, n_drawn, rank, world_size: as for ``RandomBatches``.
        seed: of the offsets and the order.
    """

    def __init__(
        self,
        tokens: Tensor,
        *,
        block_size: int,
        batch_size: int,
        seed: int,
        max_windows: int | None = None,
        n_drawn: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.windows = all_windows(tokens, block_size, max_windows)
        self.stride = 1 if max_windows else block_size
        self.n_windows = max(1, len(self.windows) // self.stride)  # per epoch
        self.batch_size = batch_size
        self.n_drawn = n_drawn
        self.offsets = torch.empty(0, dtype=torch.long)
        self._rank_slice = _rank_slice(batch_size, rank, world_size)
        self._generator = torch.Generator().manual_seed(seed)
        n_epochs, n_windows = divmod(n_drawn * batch_size, self.n_windows)
        for _ in range(n_epochs):
            self._shuffle()
        self._remaining = self._shuffle()[n_windows:]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        while len(self._remaining) < self.batch_size:
            self._remaining = torch.cat([self._remaining, self._shuffle()])
        self.offsets, self._remaining = self._remaining[: self.batch_size], self._remaining[self.batch_size :]
        self.n_drawn += 1
        return slice_windows(self.windows, self.offsets[self._rank_slice])

    def _shuffle(self) -> Tensor:
        """The offsets of one epoch, in its order."""
        start = torch.randint(min(self.stride, len(self.windows)), (1,), generator=self._generator)
        return start + self.stride * torch.randperm(self.n_windows, generator=self._generator)


class SequenceLengthWarmup:
    """Training batches whose windows are cut into shorter ones at first: cheaper steps that learn faster.

    A batch always has the same number of tokens. Li et al. 2022, "The Stability-Efficiency Dilemma".

    Args:
        batches: the batches to cut.
        sizes: for each shorter window, which divides ``block_size``, the number of batches until which it is used.
    """

    def __init__(self, batches: TrainBatches, *, sizes: dict[int, int]) -> None:
        self.batches = batches
        self.sizes = sorted(sizes.items())

    @property
    def n_drawn(self) -> int:
        """Batches drawn so far."""
        return self.batches.n_drawn

    @property
    def offsets(self) -> Tensor:
        """The offsets of the latest batch, before it is cut."""
        return self.batches.offsets

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        n = self.n_drawn
        x, y = next(self.batches)
        size = next((size for size, until in self.sizes if n < until), x.size(1))
        return x.reshape(-1, size), y.reshape(-1, size)


class TrainLoader:
    """One epoch of a stream of batches: an iterable with a length, as Lightning and plain loops want it.

    Each iteration continues the stream; nothing is drawn twice.
    """

    def __init__(self, batches: TrainBatches, *, n_batches: int) -> None:
        self.batches = batches
        self.n_batches = n_batches

    def __len__(self) -> int:
        return self.n_batches

    def __iter__(self) -> Iterator[Batch]:
        return islice(self.batches, self.n_batches)


def _rank_slice(batch_size: int, rank: int, world_size: int) -> slice:
    n_own = batch_size // world_size
    return slice(rank * n_own, (rank + 1) * n_own)
