"""Losses of many batches, summed by the tokens that they are the means of."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

from gptladder.blocks import Batch


class Measuring:
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
        self.sums = torch.zeros(n_parts, 2, dtype=torch.float64, device=device)
        self._most_pending = 2 * side_by_side  # no more of a long text is in memory than that
        self._pending: deque[tuple[int, int, Future[Tensor]]] = deque()
        self._pool = _pool(side_by_side) if side_by_side > 1 else None

    def add(self, part: int, batch: Batch) -> None:
        """Measure one more batch of a part."""
        n_tokens = batch[1].numel()
        if self._pool is None:
            self._count(part, n_tokens, self.loss(batch))
            return
        self._pending.append((part, n_tokens, self._pool.submit(self._measured, batch)))
        if len(self._pending) > self._most_pending:
            self._count_oldest()

    def finish(self) -> Tensor:
        """The sums of losses times tokens and of tokens, ``(n_parts, 2)``."""
        while self._pending:
            self._count_oldest()
        return self.sums

    def _measured(self, batch: Batch) -> Tensor:
        with torch.inference_mode():  # which every thread enters for itself
            return self.loss(batch)

    def _count_oldest(self) -> None:
        part, n_tokens, loss = self._pending.popleft()
        self._count(part, n_tokens, loss.result())

    def _count(self, part: int, n_tokens: int, loss: Tensor) -> None:
        self.sums[part] += torch.stack([loss.double() * n_tokens, loss.new_tensor(n_tokens)])


@cache
def _pool(n: int) -> ThreadPoolExecutor:
    """The threads of all evaluations: what torch keeps for a thread, some megabytes, would outlive each that ends."""
    return ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(1,))
