"""Several optimizer steps between two looks of Lightning's training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import lightning.pytorch as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loops.fetchers import _DataFetcher
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from torch import Tensor, nn

from gptladder.data.training_batches import RandomBatches
from gptladder.data.windows import Batch
from gptladder.fast.adamw import FusedAdamWStep, has_step_hooks
from gptladder.fast.evaluation_loop import FastEvaluationLoop
from gptladder.model.gpt import GPT, Bigram, count_parameters
from gptladder.model.loss import next_token_loss

GradientStep = Callable[[Tensor, Tensor], Tensor]

# Parameters times tokens of the steps that Lightning does not see: about a tenth of a second on one core, which is how
# long a signal or the progress bar may have to wait.
MAX_WORK = 300_000_000


def install_loops(trainer: L.Trainer, *, threads: int, nonfinite_error: Callable[..., FloatingPointError]) -> None:
    """Replace a trainer's loops for training and validation by the fast ones."""
    old = trainer.fit_loop.epoch_loop
    loop = FastTrainingEpochLoop(trainer, old.min_steps, old.max_steps, nonfinite_error=nonfinite_error)
    for evaluation in (old.val_loop, trainer.validate_loop):
        evaluation.__class__ = FastEvaluationLoop
        evaluation.threads = threads  # type: ignore[attr-defined]
    loop.val_loop = old.val_loop
    trainer.fit_loop.epoch_loop = loop


class FastTrainingEpochLoop(_TrainingEpochLoop):
    """Takes the steps at which nothing happens directly, and all others as Lightning does.

    Lightning takes half a millisecond per step, more than a step of a bigram. Steps at which a metric is logged, an
    evaluation follows or a checkpoint is saved, and the last step, go through Lightning with every hook; the steps
    before them are a bare loop. Counters, and so checkpoints, are the same.

    Uses Lightning's private loop classes (2.6), and its progress trackers.
    """

    def __init__(
        self,
        trainer: L.Trainer,
        min_steps: int | None,
        max_steps: int,
        *,
        nonfinite_error: Callable[..., FloatingPointError],
    ) -> None:
        super().__init__(trainer, min_steps, max_steps)
        self._nonfinite_error = nonfinite_error
        self._found_nonfinite, self._one = torch.zeros(1), torch.ones(1)

    def advance(self, data_fetcher: _DataFetcher) -> None:
        n_steps = self._n_unobserved_steps()
        if n_steps > 0:
            self._take_steps(n_steps, data_fetcher)
        super().advance(data_fetcher)

    def _n_unobserved_steps(self) -> int:
        """The steps until the next one that Lightning must see."""
        trainer: Any = self.trainer
        per_step = trainer.accumulate_grad_batches
        if self.restarting or trainer.should_stop or self.batch_progress.current.ready % per_step:
            return 0
        if any(getattr(callback, "signal_number", None) for callback in trainer.callbacks):
            return 0  # `GracefulStop` ends the run at the next step that Lightning sees
        intervals = [trainer.log_every_n_steps]
        if isinstance(trainer.val_check_batch, int):
            if trainer.val_check_batch % per_step:
                return 0
            intervals.append(trainer.val_check_batch // per_step)
        intervals += [c._every_n_train_steps for c in trainer.callbacks if isinstance(c, ModelCheckpoint)]
        step = self.global_step
        left_in_epoch = (trainer.num_training_batches - self.batch_progress.current.ready) // per_step
        last = min(self.max_steps if self.max_steps > 0 else step + left_in_epoch, step + left_in_epoch)
        seen = min([last, *(step - step % interval + interval for interval in intervals if interval)])
        return int(min(seen - step - 1, self._max_steps_at_a_time()))

    def _max_steps_at_a_time(self) -> int:
        data: Any = self.trainer.datamodule
        tokens = data.batch_size * data.block_size * self.trainer.accumulate_grad_batches
        return int(MAX_WORK // (count_parameters(self.trainer.lightning_module) * tokens))

    def _take_steps(self, n_steps: int, data_fetcher: _DataFetcher) -> None:
        n_taken = 0
        try:
            for _ in self._steps(n_steps):
                n_taken += 1
        finally:  # also after an error, so that the counters agree with the weights
            self._count(n_taken, data_fetcher)

    def _steps(self, n_steps: int) -> Iterator[None]:
        """Take optimizer steps; yields after each.

        Raises:
            FloatingPointError: the loss or a gradient is not finite; no weight has moved in that step.
        """
        trainer: Any = self.trainer
        net: nn.Module = trainer.lightning_module.net
        (optimizer,) = trainer.optimizers
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
        batches = self._batches(net, n_steps * trainer.accumulate_grad_batches)
        gradient_step = self._gradient_step(net)
        fused: FusedAdamWStep | None = None
        try:
            for step in range(self.global_step + 1, self.global_step + n_steps + 1):
                for parameter in parameters:
                    parameter.grad = None
                losses, offsets = self._compute_gradients(gradient_step, batches)
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                if not self._all_finite([*losses, *gradients]):
                    raise self._error(losses, step=step, offsets=offsets)
                if trainer.gradient_clip_val:
                    nn.utils.clip_grad_norm_(parameters, trainer.gradient_clip_val)
                if fused is None and len(gradients) == len(parameters) and FusedAdamWStep.supports(optimizer):
                    fused = FusedAdamWStep(optimizer)
                (fused or optimizer).step()
                for scheduler in schedulers:
                    scheduler.step()
                yield
        finally:
            if fused is not None:
                fused.finish()

    def _gradient_step(self, net: nn.Module) -> GradientStep:
        """A function of a batch that computes its gradients and returns its loss."""
        trainer: Any = self.trainer
        per_step = trainer.accumulate_grad_batches
        compiled: Any = net if isinstance(net, GPT) and hasattr(net, "gradients_without_autograd") else None
        if compiled is not None and per_step == 1 and self._steps_plainly():
            with trainer.precision_plugin.train_step_context():
                without_autograd: GradientStep | None = compiled.gradients_without_autograd()
            if without_autograd is not None:
                return without_autograd

        def with_autograd(x: Tensor, y: Tensor) -> Tensor:
            with trainer.precision_plugin.train_step_context():
                loss = next_token_loss(net(x), y)
            (loss / per_step if per_step > 1 else loss).backward()
            return loss.detach()

        return with_autograd

    def _steps_plainly(self) -> bool:
        """Whether an optimizer is known to change weights in place, and nothing may keep a gradient."""
        (optimizer,) = self.trainer.optimizers
        known = type(optimizer).__module__.startswith(("torch.optim.", "gptladder."))
        return known and not has_step_hooks(optimizer)

    def _compute_gradients(
        self, gradient_step: GradientStep, batches: Iterator[Batch]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The loss and the offsets of each batch of one step."""
        trainer: Any = self.trainer
        losses, offsets = [], []
        for x, y in islice(batches, trainer.accumulate_grad_batches):
            offsets.append(trainer.train_dataloader.batches.offsets)
            losses.append(gradient_step(x, y))
        return losses, offsets

    def _batches(self, net: nn.Module, n_batches: int) -> Iterator[Batch]:
        """The next batches; random ones are drawn in one call if the network draws from no generator itself."""
        loader: Any = self.trainer.train_dataloader
        batches = loader.batches
        own_generator = isinstance(batches, RandomBatches) and batches.generator is not None
        deterministic = type(net) is Bigram or (isinstance(net, GPT) and not net.arguments["dropout"])
        if isinstance(batches, RandomBatches) and (own_generator or deterministic):
            return batches.sample(n_batches)
        return iter(batches)

    def _all_finite(self, tensors: list[Tensor]) -> bool:
        """Check as PyTorch's GradScaler does, with a scale of one: 0.015 ms for 39 gradients, their norm takes 0.11."""
        self._found_nonfinite.zero_()
        torch._amp_foreach_non_finite_check_and_unscale_(tensors, self._found_nonfinite, self._one)
        return not self._found_nonfinite.item()

    def _error(self, losses: list[Tensor], *, step: int, offsets: list[Tensor]) -> FloatingPointError:
        for loss, batch in zip(losses, offsets, strict=True):
            if not loss.isfinite():
                return self._nonfinite_error(f"loss is {loss.item()}", step=step, offsets=[batch])
        return self._nonfinite_error("a gradient is not finite", step=step, offsets=offsets)

    def _count(self, n_steps: int, data_fetcher: _DataFetcher) -> None:
        """Advance every counter that Lightning would have advanced."""
        n_batches = n_steps * self.trainer.accumulate_grad_batches
        optimizer = self.automatic_optimization.optim_progress.optimizer
        counters: list[tuple[Any, int]] = [(self.batch_progress, n_batches), (optimizer.step, n_steps)]
        counters.append((optimizer.zero_grad, n_steps))
        if self.trainer.lr_scheduler_configs:
            counters.append((self.scheduler_progress, n_steps))
        for progress, n in counters:
            for tracker in (progress.total, progress.current):
                for name in vars(tracker):
                    setattr(tracker, name, getattr(tracker, name) + n)
        self._batches_that_stepped += n_steps
        data_fetcher.fetched += n_batches
