"""The progress of a sweep whose jobs run in other processes: read from their ``result.json``, shown by this one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

from gptladder.runs.run import ENDED, Run, error_summary
from gptladder.runs.train_log import REPORTED
from gptladder.sweeps.jobs import Job
from gptladder.system.errors import UserError, printable
from gptladder.system.units import format_duration

POLL_SECONDS = 0.5


@contextmanager
def show_progress(
    jobs: Sequence[Job], labels: Sequence[str], format_line: Callable[[dict[str, Any], str], RenderableType]
) -> Iterator[None]:
    """Show how far the jobs of a sweep are while the body runs them, and a line for each that ends.

    Args:
        jobs: that the body launches.
        labels: what to call each of them.
        format_line: a line for a job that finished, from its result and its label.
    """
    width = max(map(len, labels), default=0)
    watched = [WatchedJob(job, label.ljust(width)) for job, label in zip(jobs, labels, strict=True)]
    os.environ[REPORTED] = "true"  # the workers inherit it
    with _Display(watched, format_line) as display:
        ended = Event()

        def watch() -> None:
            while not ended.wait(POLL_SECONDS):
                display.update()

        thread = Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            del os.environ[REPORTED]


class WatchedJob:
    """A job in another process, by what its ``result.json`` says since the sweep was launched."""

    def __init__(self, job: Job, label: str) -> None:
        assert job.config is not None
        self.label = label
        self.directory = job.directory
        self.last_step = int(job.config.trainer.max_steps)
        self.result: dict[str, Any] = {}
        self._written = self._time_written()
        self.first_step = self.step = Run.read(job.directory).get("step") or 0  # of a job that is resumed

    @property
    def status(self) -> str:
        return str(self.result.get("status", "pending"))

    def changed(self) -> bool:
        """Read the result again if it was written; whether it was."""
        written = self._time_written()
        if written == self._written:
            return False
        try:
            result = Run.read(self.directory)
        except UserError:  # on a file system without atomic renames
            return False
        self._written, self.result = written, result
        self.step = result.get("step") or self.step
        return True

    def _time_written(self) -> int:
        try:
            return Path(self.directory / "result.json").stat().st_mtime_ns
        except OSError:
            return 0


class _Display:
    """A line for each job that ended and, on a terminal, a line with the progress of the sweep below them."""

    def __init__(self, jobs: list[WatchedJob], format_line: Callable[[dict[str, Any], str], RenderableType]) -> None:
        self.jobs = jobs
        self.format_line = format_line
        self.console = Console()
        self._started: float | None = None  # when the first job ran: workers take seconds to start
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> _Display:
        if self.console.is_terminal:
            columns = (
                MofNCompleteColumn(),
                TextColumn("jobs"),
                BarColumn(bar_width=10),
                TextColumn("{task.fields[speed]}"),
                TextColumn("{task.fields[running]}", style="dim", table_column=Column(no_wrap=True, ratio=1)),
            )
            self._bar = Progress(*columns, console=self.console, transient=True, expand=True, refresh_per_second=4)
            self._task = self._bar.add_task("jobs", total=len(self.jobs), speed="starting", running="")
            self._bar.start()
        else:
            self.console.print(f"{len(self.jobs)} jobs, a line for each that ends", highlight=False)
        return self

    def __exit__(self, *_: object) -> None:
        self.update()
        if self._bar is not None:
            self._bar.stop()

    def update(self) -> None:
        """Print the jobs that ended since the last call, and draw the line again."""
        for job in self.jobs:
            if job.changed():
                self._print_ended(job)
        if self._bar is None:
            return
        running = [job.label.rstrip() for job in self.jobs if job.status == "running"]
        n_ended = sum(job.status in (*ENDED, "failed") for job in self.jobs)
        self._bar.update(self._task, completed=n_ended, speed=self._speed(), running=", ".join(running))

    def _print_ended(self, job: WatchedJob) -> None:
        if job.status in ENDED:
            self.console.print(self.format_line(job.result, job.label), soft_wrap=True)
        elif job.status == "failed":
            line = printable(f"{job.label}   FAILED: {error_summary(job.result)}")
            self.console.print(Text(line, "red"), soft_wrap=True)

    def _speed(self) -> str:
        """Steps so far, their speed, and how long the rest takes at that speed."""
        done, total = (sum(getattr(job, name) for job in self.jobs) for name in ("step", "last_step"))
        taken = done - sum(job.first_step for job in self.jobs)
        if self._started is None:
            if all(job.status == "pending" for job in self.jobs):
                return "starting"
            self._started = time.monotonic()
        if taken <= 0:
            return f"{done:,}/{total:,} steps"
        speed = taken / max(time.monotonic() - self._started, POLL_SECONDS)
        left = sum(job.last_step - job.step for job in self.jobs if job.status not in (*ENDED, "failed"))
        return f"{done:,}/{total:,} steps, {speed:,.0f} steps/s, {format_duration(left / speed)} left"
