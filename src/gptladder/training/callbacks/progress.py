"""Progress on the terminal or in the cell of a notebook: a line per evaluation, and a bar."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
from rich.console import Console

from gptladder.training.callbacks.progress_bars import CellBar, TerminalBar
from gptladder.training.lightning_module import LanguageModel

# The loss below which a few windows of text count as memorized, in nats per token.
MEMORIZED = 0.1


class Progress(L.Callback):
    """Shows the losses of every evaluation, the steps and the speed; silent in all processes but the first."""

    def __init__(self) -> None:
        # In a notebook, rich would show every line as HTML of its own, which train.log never sees.
        self.console = Console(force_jupyter=False)
        self.bar: TerminalBar | CellBar | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        if Console().is_jupyter:
            self.bar = CellBar(total=trainer.max_steps, completed=trainer.global_step)
        elif self.console.is_terminal:
            self.bar = TerminalBar(self.console, total=trainer.max_steps, completed=trainer.global_step)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.bar is not None:
            self.bar.update(trainer.global_step)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and not trainer.sanity_checking:
            assert isinstance(pl_module, LanguageModel)
            train, val, exact = pl_module.val_metrics.values()
            line = f"step {trainer.global_step:>6,}   train {train:.4f}   val {val:.4f}   exact val {exact:.4f}"
            n_windows = trainer.datamodule.overfit_windows  # type: ignore[attr-defined]
            if n_windows is not None:
                line = self._memorized(trainer, n_windows)
            self.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def _memorized(self, trainer: L.Trainer, n_windows: int) -> str:
        """The line of a run that should overfit: the loss on its few windows, because that on other text only rises."""
        loss = trainer.callback_metrics.get("train/loss")
        if loss is None:
            return f"step {trainer.global_step:>6,}   memorizing {n_windows} windows"
        done = "   memorized" if loss < MEMORIZED else ""
        return f"step {trainer.global_step:>6,}   loss on the {n_windows} windows {float(loss):.4f}{done}"

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._stop()  # Lightning skips `teardown` here, and the bar hides the terminal's cursor

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._stop()

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None
