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

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # After an evaluation, with which `last` was saved. A stretch may reach from one evaluation to the next, so
        # that there is no other boundary.
        if batch_idx and self._evaluates_now(trainer, batch_idx - 1) and self._received_by_any(trainer):
            raise SystemExit(128 + (self.received or signal.SIGTERM))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True  # which makes Lightning evaluate once more
        elif not self._evaluates_now(trainer, batch_idx) and self._received_by_any(trainer):
            trainer.save_checkpoint(self.checkpoint, weights_only=False)
            raise SystemExit(128 + (self.received or signal.SIGTERM))

    def _received_by_any(self, trainer: L.Trainer) -> bool:
        """All processes stop at the same step, whichever was told to; saving takes all of them."""
        return bool(trainer.strategy.reduce_boolean_decision(self.received is not None, all=False))

    @staticmethod
    def _evaluates_now(trainer: L.Trainer, batch_idx: int) -> bool:
        # A checkpoint between a step and its evaluation would lose the evaluation; the next stretch is soon enough.
        assert isinstance(trainer.val_check_batch, int)
        return (batch_idx + 1) % trainer.val_check_batch == 0

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._give_back()  # Lightning leaves teardown out after an exception

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._give_back()
        if self.received is not None:  # in the last stretch or its evaluation: the next to go on has only to finish
            signal.raise_signal(self.received)

    def _give_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
