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

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        loader: Any = trainer.train_dataloader
        offsets = [loader.batches.offsets] if isinstance(loader, TrainLoader) else []
        self._batches.append(_Batch(loss.detach(), offsets))
        if _is_at_hand(loss) and not loss.isfinite():
            raise _loss_error(self._batches[-1], step=trainer.global_step + 1)

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        batches, self._batches = self._batches, []
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        largest = nn.utils.get_total_norm(gradients, math.inf).to(pl_module.device)  # NaN if any value is NaN
        is_finite = torch.stack([value.isfinite() for value in (*(batch.loss for batch in batches), largest)])
        self._unread.append(_Step(trainer.global_step + 1, batches, is_finite))
        every = min(trainer.log_every_n_steps or MAX_UNREAD_STEPS, MAX_UNREAD_STEPS)  # type: ignore[attr-defined]
        if _is_at_hand(is_finite) or (trainer.global_step + 1) % every == 0:
            self._read(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._read(trainer)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._read(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._read(trainer)

    def _read(self, trainer: L.Trainer) -> None:
        """Look at all steps that are unread, in order."""
        if not self._unread:
            return
        answers = torch.stack([step.is_finite for step in self._unread]).tolist()
        steps, self._unread = self._unread, []
        for step, (*losses_are_finite, gradients_are_finite) in zip(steps, answers, strict=True):
            for batch, loss_is_finite in zip(step.batches, losses_are_finite, strict=True):
                if not loss_is_finite:
                    raise _loss_error(batch, step=step.number)
            self._n_skipped = 0 if gradients_are_finite else self._n_skipped + 1
            skips = getattr(trainer.precision_plugin, "scaler", None) is not None
            if self._n_skipped > (MAX_SKIPPED_STEPS if skips else 0):
                offsets = [each for batch in step.batches for each in batch.offsets]
                raise nonfinite_error("a gradient is not finite", step=step.number, offsets=offsets)


def _is_at_hand(value: Tensor) -> bool:
    """Whether reading a value makes nothing wait."""
    return value.is_cpu


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

    return hook
