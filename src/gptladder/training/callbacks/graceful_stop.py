"""The end of a run: an evaluation after the last step, or a checkpoint at a step boundary after a signal."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import lightning.pytorch as L

from gptladder.system import signals


class GracefulStop(L.Callback):
    """Ends a run with an evaluation for any number of steps, and an interrupted one with a checkpoint.

    Lightning 2.6 skips the last evaluation unless ``max_steps`` is a multiple of the interval, and exits with 0 on
    SIGTERM. Its own checkpoints on exceptions may fall in the middle of a step.

    Args:
        checkpoint: where an interrupted run is saved.
    """

    def __init__(self, *, checkpoint: str) -> None:
        self.checkpoint = checkpoint
        self.signal_number: int | None = None
        self._previous_handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for number in (signal.SIGTERM, signal.SIGINT) if signals.can_handle_signals() else ():
            self._previous_handlers[number] = signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.signal_number is not None:  # a second signal: stop immediately, without a checkpoint
            raise SystemExit(128 + number)
        self.signal_number = number

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # After an evaluation, with which `last` was saved. Where every boundary has an evaluation there is no other.
        n_batches = trainer.fit_loop.total_batch_idx
        if n_batches and self._at_validation(trainer, n_batches) and self._any_process_signaled(trainer):
            raise SystemExit(128 + (self.signal_number or signal.SIGTERM))

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # in the middle of a step
        if trainer.max_steps > 0 and trainer.global_step >= trainer.max_steps:
            trainer.should_stop = True  # which makes Lightning evaluate once more
        elif not self._at_validation(trainer, trainer.fit_loop.total_batch_idx + 1) and self._any_process_signaled(
            trainer
        ):
            trainer._logger_connector.update_train_step_metrics()  # which Lightning does after this hook
            trainer.save_checkpoint(self.checkpoint, weights_only=False)
            raise SystemExit(128 + (self.signal_number or signal.SIGTERM))

    def _any_process_signaled(self, trainer: L.Trainer) -> bool:
        """All processes stop at the same step, whichever received the signal; saving takes all of them."""
        return bool(trainer.strategy.reduce_boolean_decision(self.signal_number is not None, all=False))

    @staticmethod
    def _at_validation(trainer: L.Trainer, n_batches: int) -> bool:
        # A checkpoint between a step and its evaluation would lose the evaluation; the next boundary is soon enough.
        interval = trainer.val_check_batch
        return isinstance(interval, int) and n_batches % interval == 0

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning restores the handlers that it found before it calls `teardown`, and ours refer to its own.
        self._restore_handlers()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._restore_handlers()  # Lightning skips teardown after an exception

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self.signal_number is not None:  # it came during the last steps or their evaluation
            signal.raise_signal(self.signal_number)

    def _restore_handlers(self) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)
        self._previous_handlers = {}
