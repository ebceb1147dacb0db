"""Stop at values that are NaN or infinite, before they reach a weight or, on a GPU, a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gptladder.data.training_batches import TrainLoader
from gptladder.training.lightning_module import NONFINITE_HINT

# In fp16 a step whose gradients overflow is skipped and the loss scale halved; this often in a row it is no accident.
MAX_SKIPPED_STEPS = 20

# Steps whose values may wait on a GPU. Where metrics are logged more often, the values are read with them.
MAX_UNREAD_STEPS = 50


class _Batch(NamedTuple):
    """The loss of a batch, and the offsets of its windows where they are known."""

    loss: Tensor
    offsets: list[Tensor]


class _Step(NamedTuple):
    """What tells whether a step is finite, where the step was computed; nothing was read yet."""

    number: int
    batches: list[_Batch]
    is_finite: Tensor  # the loss of each batch, then the gradients, (accumulated + 1,) bool


class NonFiniteGuard(L.Callback):
    """Raises ``FloatingPointError`` if the loss or a gradient is not finite.

    On the CPU it does so before the optimizer step. To read a value from a GPU, the CPU has to wait until the GPU has
    computed it, and the GPU then waits for the next step: there each step leaves its answer on the GPU, and the answers
    are read together, every ``log_every_n_steps`` steps (at most ``MAX_UNREAD_STEPS``), before every evaluation, before
    every checkpoint that a run resumes from, and at the end. Weights in memory may have become NaN by then, those of a
    checkpoint never; the error names the step at which it happened.
    """

    def __init__(self) -> None:
        self._n_skipped = 0
        self._batches: list[_Batch] = []  # of the current step
        self._unread: list[_Step] = []
        self._error: FloatingPointError | None = None  # that was found after the update

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._batches, self._unread, self._error = [], [], None

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        loader: Any = trainer.train_dataloader
        offsets = [loader.batches.offsets] if isinstance(loader, TrainLoader) else []
        self._batches.append(_Batch(loss.detach(), offsets))
        if _reads_at_once(loss.device) and not loss.isfinite():
            raise _loss_error(self._batches[-1], step=trainer.global_step + 1)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        number = trainer.global_step + 1
        batches, self._batches = self._batches, []
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if _reads_at_once(pl_module.device):
            self._check_gradients(trainer, number, batches, is_finite=all_finite(gradients))
            return
        # One value for all of them, NaN if any of theirs is: a kernel for each would take longer to launch than to run.
        largest = nn.utils.get_total_norm(gradients, math.inf).to(pl_module.device)
        answers = [value.isfinite() for value in (*(batch.loss for batch in batches), largest)]
        self._unread.append(_Step(number, batches, torch.stack(answers)))
        every = min(trainer.log_every_n_steps or MAX_UNREAD_STEPS, MAX_UNREAD_STEPS)  # type: ignore[attr-defined]
        if number % every == 0:
            self._read(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._read(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._read(trainer)
        if self._error is not None:  # a callback saves what is left after the error
            raise self._error

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._read(trainer)

    def _read(self, trainer: L.Trainer) -> None:
        """Look at all steps that are unread, in order."""
        if not self._unread:
            return
        steps, self._unread = self._unread, []
        answers = iter(torch.cat([step.is_finite for step in steps]).tolist())
        try:
            for step in steps:
                for batch in step.batches:
                    if not next(answers):
                        raise _loss_error(batch, step=step.number)
                self._check_gradients(trainer, step.number, step.batches, is_finite=next(answers))
        except FloatingPointError as error:
            self._error = error
            raise

    def _check_gradients(self, trainer: L.Trainer, step: int, batches: list[_Batch], *, is_finite: bool) -> None:
        self._n_skipped = 0 if is_finite else self._n_skipped + 1
        skips = getattr(trainer.precision_plugin, "scaler", None) is not None
        if self._n_skipped > (MAX_SKIPPED_STEPS if skips else 0):
            offsets = [each for batch in batches for each in batch.offsets]
            raise nonfinite_error("a gradient is not finite", step=step, offsets=offsets)


def all_finite(tensors: Sequence[Tensor]) -> bool:
    """Whether all values are finite: so is their sum unless it overflows, and only then each value is looked at."""
    if math.isfinite(sum(tensor.sum().item() for tensor in tensors)):
        return True
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


def _reads_at_once(device: torch.device) -> bool:
    """Whether reading a value from a device makes nothing wait."""
    return device.type == "cpu"


def _loss_error(batch: _Batch, *, step: int) -> FloatingPointError:
    return nonfinite_error(f"loss is {float(batch.loss)}", step=step, offsets=batch.offsets)


def nonfinite_error(what: str, *, step: int, offsets: Sequence[Tensor]) -> FloatingPointError:
    """The error that names the step and the windows of its batches; ``offsets`` has those of each batch."""
    numbers = ", ".join(str(offset) for batch in offsets for offset in batch.tolist())
    where = f" (batch offsets in the training split: {numbers})" if numbers else ""
    return FloatingPointError(f"step {step}: {what}{where}; {NONFINITE_HINT}")


class NonFiniteOutputs(L.Callback):
    """Names the first module whose output is not finite, and stops; for debugging, because it takes time.

    For gradients there is PyTorch's own ``trainer.detect_anomaly=true``.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._handles = [
            module.register_forward_hook(_check_output(name)) for name, module in pl_module.named_modules() if name
        ]

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for handle in self._handles:
            handle.remove()


def _check_output(name: str) -> Callable[[nn.Module, Any, Any], None]:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            raise FloatingPointError(f"the output of {name} ({type(module).__name__}) is not finite")

    vars(hook)["only_observes"] = True  # so that compiled code may show it the outputs of the plain one
    return hook
