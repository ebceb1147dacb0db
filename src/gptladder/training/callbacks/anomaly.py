"""Who made the first number that is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as L
from torch import Tensor, nn


class Anomaly(L.Callback):
    """Looks at what every part of the net gives, and stops the run at the first that is not finite.

    For gradients there is ``trainer.detect_anomaly=true``, torch's own. Both cost time.
    """

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.handles = [
            part.register_forward_hook(_watch(name)) for name, part in pl_module.named_modules() if name != ""
        ]

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for handle in self.handles:
            handle.remove()


def _watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
    def look(part: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            raise FloatingPointError(f"{name} ({type(part).__name__}) gives a number that is not finite")

    return look
