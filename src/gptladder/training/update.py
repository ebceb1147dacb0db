"""One step: the gradients of its batches, looked at before they move a weight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler

# In fp16 a step in which a gradient overflows is left out and the scale halved; so often in a row it is no accident.
MOST_SKIPS = 20


class Update:
    """Moves the weights by one step, or refuses to.

    Args:
        net: whose weights are moved.
        optimizer: Lightning's around torch's, which counts the steps and knows the precision, or ``Unheard``.
        scheduler: of the learning rate, or ``None``.
        backward: what computes gradients from a loss: ``LightningModule.manual_backward``, or torch's own.
        scaler: of fp16, or ``None``.
        clip: the longest gradient, or ``None``.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        optimizer: Any,
        scheduler: Any,
        backward: Callable[[Tensor], Any],
        scaler: GradScaler | None,
        clip: float | None,
    ) -> None:
        self.parameters = list(net.parameters())
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.backward = backward
        self.scaler = scaler
        self.clip = clip
        self.skips = 0
        device = self.parameters[0].device
        self._found, self._one = torch.zeros(1, device=device), torch.ones(1, device=device)

    def __call__(self, losses: list[Callable[[], Tensor]]) -> Tensor:
        """Take one step on the mean of some losses, each computed when its turn comes; returns that mean.

        Raises:
            FloatingPointError: the loss or a gradient is no finite number; no weight has moved.
        """
        for parameter in self.parameters:
            parameter.grad = None
        parts = []
        for compute in losses:
            loss = compute() / len(losses) if len(losses) > 1 else compute()
            self.backward(loss)
            parts.append(loss.detach())
        total = torch.stack(parts).sum() if len(parts) > 1 else parts[0]
        self._refuse_what_is_no_number(total)
        if self.clip:
            scale = self.scaler.get_scale() if self.scaler else 1.0
            nn.utils.clip_grad_norm_(self.parameters, self.clip * scale)
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        return total

    def _refuse_what_is_no_number(self, loss: Tensor) -> None:
        gradients = [parameter.grad for parameter in self.parameters if parameter.grad is not None]
        self._found.zero_()
        # What torch's GradScaler asks, with a scale of one: for 39 gradients 0.015 ms, their norm would take 0.11.
        torch._amp_foreach_non_finite_check_and_unscale_([loss, *gradients], self._found, self._one)
        if not self._found.item():
            self.skips = 0
            return
        self.skips += 1
        if self.scaler is None or self.skips > MOST_SKIPS or not loss.isfinite():
            what = "a gradient" if loss.isfinite() else f"the loss ({loss.item()})"
            raise FloatingPointError(f"{what} is no finite number")


class Unheard:
    """Torch's optimizer, counted by Lightning as ever, without the callbacks in between.

    Args:
        optimizer: Lightning's around torch's.
    """

    def __init__(self, optimizer: Any) -> None:
        self.optimizer = optimizer

    def step(self) -> None:
        """Take the step and have it counted."""
        self.optimizer._on_before_step()
        self.optimizer.optimizer.step()
        self.optimizer._on_after_step()
