"""Stop at values that are NaN or infinite, before they reach a weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as L
from torch import Tensor, nn
from torch.optim import Optimizer

from gptladder.data.training_batches import TrainLoader
from gptladder.training.lightning_module import NONFINITE_HINT

# In fp16 a step whose gradients overflow is skipped and the loss scale halved; this often in a row it is no accident.
MAX_SKIPPED_STEPS = 20


class NonFiniteGuard(L.Callback):
    """Raises ``FloatingPointError`` before the optimizer step if the loss or a gradient is not finite."""

    def __init__(self) -> None:
        self._n_skipped = 0
        self._offsets: list[Tensor] = []  # of the batches of this step

    def on_before_backward(self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor) -> None:
        loader: Any = trainer.train_dataloader
        offsets = [loader.batches.offsets] if isinstance(loader, TrainLoader) else []
        if not loss.isfinite():
            value = float(loss.detach() * trainer.accumulate_grad_batches)
            raise nonfinite_error(f"loss is {value}", step=trainer.global_step + 1, offsets=offsets)
        self._offsets += offsets

    def on_before_optimizer_step(self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer) -> None:
        offsets, self._offsets = self._offsets, []
        gradients = (p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None)
        if all(bool(gradient.isfinite().all()) for gradient in gradients):
            self._n_skipped = 0
            return
        self._n_skipped += 1
        if getattr(trainer.precision_plugin, "scaler", None) is None or self._n_skipped > MAX_SKIPPED_STEPS:
            raise nonfinite_error("a gradient is not finite", step=trainer.global_step + 1, offsets=offsets)


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
