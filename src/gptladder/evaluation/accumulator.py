"""Losses of many batches, summed by the tokens that they are the means of."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Self

import torch
from torch import Tensor

from gptladder.data.batches import Batch


class Part:
    """A part of the validation data: all its batches, which Lightning takes for one.

    Its loop costs a quarter of a millisecond each time round, as much as a batch of the smallest rung. As a loader this
    has one batch, itself.
    """

    def __init__(self, blocks: Iterable[Batch]) -> None:
        self.blocks = blocks
        self.device = torch.device("cpu")

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Self]:
        yield self

    def to(self, device: torch.device) -> Self:
        """Where Lightning wants the batches; each goes there when its turn comes."""
        self.device = device
        return self

    def batches(self) -> Iterator[Batch]:
        """All there are."""
        for x, y in self.blocks:
            yield x.to(self.device), y.to(self.device)


class LossAccumulator:
    """Sums over several parts of the data, with batches side by side where cores would idle.

    Each batch is computed on one thread, so the bits are those of one after another. Python's threads do here what
    torch's own cannot: alone they nearly halve the time of an evaluation, beside another run on the same two cores
    they cost nothing, where two of torch's, which wait by spinning, made one of ``layernorm`` take seven times as long.

    Args:
        loss: mean loss of a batch, a scalar.
        n_parts: how many parts there are.
        side_by_side: batches at once.
        device: where losses are.
    """

    def __init__(
        self, loss: Callable[[Batch], Tensor], n_parts: int, *, side_by_side: int, device: torch.device
    ) -> None:
        self.loss = loss
        self.device = device
        self._measured: list[list[tuple[Tensor, int]]] = [[] for _ in range(n_parts)]
        self._most_pending = 2 * side_by_side  # no more of a long text is in memory than that
        self._pending: deque[tuple[int, int, Future[Tensor]]] = deque()
        self._pool = _pool(side_by_side) if side_by_side > 1 else None

    def add(self, part: int, batch: Batch) -> None:
        """Measure one more batch of a part."""
        n_tokens = batch[1].numel()
        if self._pool is None:
            self._measured[part].append((self.loss(batch), n_tokens))
            return
        self._pending.append((part, n_tokens, self._pool.submit(self._measure, batch)))
        if len(self._pending) > self._most_pending:
            self._count_oldest()

    def finish(self) -> Tensor:
        """The sums of losses times tokens and of tokens, ``(n_parts, 2)``."""
        while self._pending:
            self._count_oldest()
        return torch.stack([self._summed(measured) for measured in self._measured])

    def _measure(self, batch: Batch) -> Tensor:
        with torch.inference_mode():  # which every thread enters for itself
            return self.loss(batch)

    def _count_oldest(self) -> None:
        part, n_tokens, loss = self._pending.popleft()
        self._measured[part].append((loss.result(), n_tokens))

    def _summed(self, measured: list[tuple[Tensor, int]]) -> Tensor:
        if not measured:  # of a small part another process may have it all
            return torch.zeros(2, dtype=torch.float64, device=self.device)
        n_tokens = torch.tensor([n for _, n in measured], dtype=torch.float64, device=self.device)
        losses = torch.stack([loss for loss, _ in measured]).double()
        return torch.stack([losses @ n_tokens, n_tokens.sum()])


@cache
def _pool(n: int) -> ThreadPoolExecutor:
    """The threads of all evaluations: what torch keeps for a thread, some megabytes, would outlive each that ends."""
    return ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(1,))
