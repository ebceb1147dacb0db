"""Lightning's evaluation loop without its bookkeeping per batch, and with batches in parallel."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from typing import Any

import torch
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning.pytorch.loops.utilities import _no_grad_context
from torch import Tensor

from gptladder.data.windows import Batch
from gptladder.model.loss import next_token_loss


class FastEvaluationLoop(_EvaluationLoop):
    """Computes the losses of all validation batches directly; every hook around the evaluation is called as usual.

    Lightning takes a quarter of a millisecond per batch, as long as a batch of the smallest rung. On cores that
    training leaves idle, batches run in parallel, each on one thread, so that the bits are the same. PyTorch's own
    threads spin while they wait, which made ``layernorm`` seven times slower when two runs shared two cores.

    Attributes:
        threads: batches at a time.
    """

    threads = 1

    @_no_grad_context
    def run(self) -> list[Any]:
        self.setup_data()
        if self.skip:
            return []
        self.reset()
        self.on_run_start()
        assert self._combined_loader is not None
        module: Any = self.trainer.lightning_module
        for loader, accumulator in zip(self._combined_loader.flattened, module.val_losses.values(), strict=True):
            n_batches = len(loader)
            for number, (loss, n_tokens) in enumerate(self._losses(module.net, iter(loader)), start=1):
                accumulator.add(loss, n_tokens)
                self._count(is_last=number == n_batches)
            self._store_dataloader_outputs()
        self._has_run = True
        return self.on_run_end()

    def _losses(self, net: torch.nn.Module, batches: Iterator[Batch]) -> Iterator[tuple[Tensor, int]]:
        """The mean loss and the number of tokens of each batch, in order."""
        if self.threads == 1:
            precision = self.trainer.precision_plugin
            for x, y in batches:
                with precision.val_step_context():
                    loss = next_token_loss(net(x), y)
                yield loss, y.numel()
            return
        pool = _thread_pool(self.threads)
        pending: deque[tuple[Future[Tensor], int]] = deque()
        for x, y in batches:
            pending.append((pool.submit(_loss, net, x, y), y.numel()))
            if len(pending) > 2 * self.threads:  # a long text is never in memory as a whole
                oldest, n_tokens = pending.popleft()
                yield oldest.result(), n_tokens
        for future, n_tokens in pending:
            yield future.result(), n_tokens

    def _count(self, *, is_last: bool) -> None:
        self.batch_progress.is_last_batch = is_last
        for increment in ("ready", "started", "processed", "completed"):
            getattr(self.batch_progress, f"increment_{increment}")()


def _loss(net: torch.nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.inference_mode():  # thread-local
        return next_token_loss(net(x), y)


@cache
def _thread_pool(n: int) -> ThreadPoolExecutor:
    """The threads of all evaluations: PyTorch keeps some megabytes per thread, which outlive the thread."""
    return ThreadPoolExecutor(n, initializer=torch.set_num_threads, initargs=(1,))
