"""Loggers that a run can resume: nothing is lost, nothing appears twice."""

from __future__ import annotations

import csv
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as L
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from gptladder.system.files import atomic_write, remove_stale_files

# Train and val of one quantity on one chart.
LAYOUT = {
    "loss": {
        "estimate": ["Multiline", ["train/estimate", "val/estimate"]],
        "loss": ["Multiline", ["train/loss", "val/loss"]],
    }
}


HEADER = "step,name,value"


class TensorBoard(TensorBoardLogger):
    """Event files in ``tensorboard/`` of the run directory, one for each time that the run is started."""

    def __init__(self, *, run_dir: str) -> None:
        super().__init__(save_dir=run_dir, name="tensorboard", version="")

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        is_new = self._experiment is None
        writer: SummaryWriter = super().experiment
        if is_new:
            weakref.finalize(self, writer.close)
            writer.add_custom_scalars(LAYOUT)
        return writer

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        self.save()  # what came before a checkpoint must be on disk before it

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Show the run in the HParams tab, beside the latest value of every scalar."""
        # The first part would list this run's columns, and TensorBoard would then give all runs of a sweep these
        # columns alone; without it, it collects the columns of all.
        _, start, _ = hparams(params, {})  # type: ignore[no-untyped-call]
        self.experiment._get_file_writer().add_summary(start)

    @rank_zero_only
    def truncate_after(self, step: int) -> None:
        """Drop the events that an interrupted run wrote past the checkpoint at which it goes on."""
        if not list(Path(self.log_dir).glob("events.*")):
            return
        # Imported here: what reads events takes a quarter of a second to load, and a new run has none.
        from tensorboard.backend.event_processing.event_file_loader import (  # type: ignore[import-untyped]
            RawEventFileLoader,
        )
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
        from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

        remove_stale_files(Path(self.log_dir))
        for path in Path(self.log_dir).glob("events.*"):
            events = [Event.FromString(record) for record in RawEventFileLoader(str(path)).Load()]
            with atomic_write(path) as file:
                for event in events:
                    if event.step <= step:
                        RecordWriter(file).write(event.SerializeToString())

    @rank_zero_only
    def save(self) -> None:
        """Flush; the config is recorded beside the events already, so no hparams.yaml is written."""
        self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flush, and keep the file open: the evaluation before the first step ends in a call of this, too."""
        self.save()


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
                writer.writerow(HEADER.split(","))
            writer.writerows((step, name, value) for name, value in metrics.items())

    @rank_zero_only
    def truncate_after(self, step: int) -> None:
        """Drop the lines that an interrupted run wrote past the step at which it goes on."""
        if not self.path.exists():
            return
        remove_stale_files(self.path.parent)
        header, *lines = self.path.read_text().split("\n")[:-1] or [""]  # after the last line end, half a line at most
        if header != HEADER:  # killed before there was a single whole line
            self.path.unlink()
            return
        kept = [line for line in lines if int(line.split(",")[0]) <= step]
        with atomic_write(self.path) as file:
            file.write("\n".join([header, *kept, ""]).encode())


def writers(trainer: L.Trainer) -> Iterator[SummaryWriter]:
    """The TensorBoard writers of a run, to draw text and images with; none on all processes but the first.

    Each is flushed when the next is asked for.
    """
    for logger in trainer.loggers:
        if trainer.is_global_zero and isinstance(logger, TensorBoardLogger):
            yield logger.experiment
            logger.experiment.flush()
