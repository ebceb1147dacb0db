"""Loggers that a run can resume: nothing is lost, nothing appears twice."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from gptladder.files import replacing
from gptladder.learner import MEASURES

# Train and val of one quantity on one chart.
LAYOUT = {
    "loss": {
        "estimate": ["Multiline", ["train/estimate", "val/estimate"]],
        "loss": ["Multiline", ["train/loss", "val/loss"]],
    }
}


class TensorBoard(TensorBoardLogger):
    """Event files in ``tensorboard/`` of the run directory."""

    def __init__(self, *, run_dir: str) -> None:
        super().__init__(save_dir=run_dir, name="tensorboard", version="", default_hp_metric=False)

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        is_new = self._experiment is None
        writer: SummaryWriter = super().experiment
        if is_new:
            writer.add_custom_scalars(LAYOUT)
        return writer

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Show the run in the HParams tab, beside the latest values of its three measures."""
        parts = hparams(params, dict.fromkeys(MEASURES, float("nan")))  # type: ignore[no-untyped-call]
        for part in parts:
            self.experiment._get_file_writer().add_summary(part)

    def forget_after(self, step: int) -> None:
        """Have TensorBoard drop what an interrupted run logged past the step at which it goes on."""
        self._kwargs["purge_step"] = step + 1

    def save(self) -> None:
        """Flush; the config is recorded beside the events already, so no hparams.yaml is written."""
        self.experiment.flush()


class CSV(Logger):
    """``metrics.csv`` in the run directory: ``step,name,value``, one line a point, only ever appended to.

    Lightning's own logger deletes what it finds.
    """

    def __init__(self, *, run_dir: str) -> None:
        super().__init__()
        self.path = Path(run_dir) / "metrics.csv"

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The config has a file of its own."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        is_new = not self.path.exists()
        with self.path.open("a", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if is_new:
                writer.writerow(("step", "name", "value"))
            writer.writerows((step, name, value) for name, value in metrics.items())

    @rank_zero_only
    def forget_after(self, step: int) -> None:
        """Drop the lines that an interrupted run wrote past the step at which it goes on."""
        if not self.path.exists():
            return
        header, *lines = self.path.read_text().splitlines()
        kept = [line for line in lines if line.count(",") == 2 and int(line.split(",")[0]) <= step]
        with replacing(self.path) as file:
            file.write("\n".join([header, *kept, ""]).encode())


def writers(trainer: L.Trainer) -> list[SummaryWriter]:
    """The TensorBoard writers of a run, to draw text and images with; none on all processes but the first."""
    if not trainer.is_global_zero:
        return []
    return [logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
