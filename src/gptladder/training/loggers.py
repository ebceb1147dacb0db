"""Loggers for runs that are resumed: no point is lost, and none appears twice."""

from __future__ import annotations

import csv
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning.pytorch as L
from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from gptladder.system.files import atomic_write, remove_stale_files

if TYPE_CHECKING:  # a run without TensorBoard need not import it
    from torch.utils.tensorboard import SummaryWriter

# Training and validation curves of one quantity share a chart.
CHART_LAYOUT = {
    "loss": {
        "estimate": ["Multiline", ["train/estimate", "val/estimate"]],
        "loss": ["Multiline", ["train/loss", "val/loss"]],
    }
}


HEADER = "step,name,value"


class ResumableTensorBoardLogger(TensorBoardLogger):
    """Event files in the run directory, one per start, so that TensorBoard names the run by its directory."""

    def __init__(self, *, run_dir: str, tags: Sequence[str] = (), notes: str | None = None) -> None:
        super().__init__(save_dir=run_dir, name="", version="")
        self.tags = list(map(str, tags))
        self.notes = notes

    @property
    @rank_zero_experiment
    def experiment(self) -> SummaryWriter:
        is_new = self._experiment is None
        writer: SummaryWriter = super().experiment
        if is_new:
            weakref.finalize(self, writer.close)
            writer.add_custom_scalars(CHART_LAYOUT)
        return writer

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        super().log_metrics(metrics, step)
        self.save()  # a checkpoint must not be on disk before the points that precede it

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Show the run in the HParams tab, with the latest value of every loss, and its tags and notes as text."""
        from torch.utils.tensorboard.summary import hparams

        from gptladder.training.hparams_tab import columns

        _, start, _ = hparams(params, {})  # type: ignore[no-untyped-call]
        for summary in (columns(params), start):
            self.experiment._get_file_writer().add_summary(summary)
        for name, text in (("tags", ", ".join(self.tags)), ("notes", self.notes)):
            if text:
                self.experiment.add_text(name, str(text))

    @rank_zero_only
    def truncate_after(self, step: int) -> None:
        """Remove the events that an interrupted run wrote after the checkpoint from which it resumes."""
        run_dir = Path(self.log_dir)
        # Version 0.1 wrote its events into a directory of their own.
        paths = [*run_dir.glob("events.*"), *run_dir.glob("tensorboard/events.*")]
        if not paths:
            return
        # Imported here: the event reader takes a quarter of a second to load, and a new run has no events.
        from tensorboard.backend.event_processing.event_file_loader import (  # type: ignore[import-untyped]
            RawEventFileLoader,
        )
        from tensorboard.compat.proto.event_pb2 import Event  # type: ignore[import-untyped]
        from tensorboard.summary.writer.record_writer import RecordWriter  # type: ignore[import-untyped]

        remove_stale_files(run_dir)
        for path in paths:
            events = [Event.FromString(record) for record in RawEventFileLoader(str(path)).Load()]
            with atomic_write(path) as file:
                for event in events:
                    if event.step <= step:
                        RecordWriter(file).write(event.SerializeToString())

    @rank_zero_only
    def save(self) -> None:
        """Flush; the config is recorded in the run directory already, so no hparams.yaml is written."""
        self.experiment.flush()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Flush, and keep the file open: the evaluation before the first step also ends in a call of this."""
        self.save()


class ResumableCSVLogger(Logger):
    """``metrics.csv`` in the run directory: ``step,name,value``, one line per point, never overwritten.

    Lightning's own logger deletes an existing file.
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
        """Remove the lines that an interrupted run wrote after the step from which it resumes."""
        if not self.path.exists():
            return
        remove_stale_files(self.path.parent)
        header, *lines = self.path.read_text().split("\n")[:-1] or [""]  # the last item is an incomplete line, or empty
        if header != HEADER:  # killed before the first line was complete
            self.path.unlink()
            return
        kept = [line for line in lines if (number := line.partition(",")[0]).isdecimal() and int(number) <= step]
        with atomic_write(self.path) as file:
            file.write("\n".join([header, *kept, ""]).encode())


def tensorboard_writers(trainer: L.Trainer) -> Iterator[SummaryWriter]:
    """The TensorBoard writers of a run, for text and images; none in any process but the first.

    Each is flushed before the next is returned.
    """
    for logger in trainer.loggers:
        if trainer.is_global_zero and isinstance(logger, TensorBoardLogger):
            yield logger.experiment
            logger.experiment.flush()
