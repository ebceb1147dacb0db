"""What a user sees while a run trains: a bar on a terminal, a line per evaluation elsewhere."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

# Steps between two looks at the clock; the bar itself is redrawn a few times a second.
EVERY = 16


class Progress(L.Callback):
    """Shows steps, speed and the latest losses; silent on all processes but the first."""

    def __init__(self) -> None:
        self.console = Console()
        self.bar: Bar | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not (trainer.is_global_zero and self.console.is_terminal):
            return
        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("steps"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
        )
        self.bar = Bar(*columns, console=self.console, transient=True, refresh_per_second=5)
        losses = _losses(trainer) if trainer.callback_metrics else ""
        self.bar.add_task("training", total=trainer.max_steps, completed=trainer.global_step, losses=losses)
        self.bar.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.bar is not None and batch_idx % EVERY == 0:
            self.bar.update(self.bar.task_ids[0], completed=trainer.global_step)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], completed=trainer.global_step, losses=_losses(trainer))
        elif trainer.is_global_zero and not self.console.is_terminal:
            print(f"step {trainer.global_step:>6}  {_losses(trainer)}", flush=True)

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def _losses(trainer: L.Trainer) -> str:
    train, val, exact = (trainer.callback_metrics[name] for name in ("train/estimate", "val/estimate", "val/loss"))
    return f"train {train:.4f}  val {val:.4f}  exact val {exact:.4f}"
