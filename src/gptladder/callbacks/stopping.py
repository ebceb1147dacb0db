"""When a run ends: after a last evaluation, or at a step boundary once a signal came."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import lightning.pytorch as L


class Stopping(L.Callback):
    """Ends a run with an evaluation whatever the number of steps, and an interrupted one with a checkpoint.

    Lightning 2.6 skips the last evaluation unless ``max_steps`` is a multiple of the interval, exits 0 on SIGTERM,
    and saves nothing on either signal.
    """

    def __init__(self, *, checkpoint: str) -> None:
        self.checkpoint = checkpoint
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._previous[number] = signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:  # asked twice: at once, without a checkpoint
            raise SystemExit(128 + number)
        self.received = number

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True  # which makes Lightning evaluate once more
        elif self.received is not None and not self._evaluates_now(trainer, batch_idx):
            trainer.save_checkpoint(self.checkpoint, weights_only=False)
            raise SystemExit(128 + self.received)

    @staticmethod
    def _evaluates_now(trainer: L.Trainer, batch_idx: int) -> bool:
        # A checkpoint between a step and its evaluation would lose the evaluation; the next stretch is soon enough.
        assert isinstance(trainer.val_check_batch, int)
        return (batch_idx + 1) % trainer.val_check_batch == 0

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self.teardown(trainer, pl_module, "fit")  # which Lightning leaves out after an exception

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
