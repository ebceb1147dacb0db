"""A bar of the steps that a training has taken: on a terminal, and in the cell of a notebook."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

REFRESHES_PER_SECOND = 5


class TerminalBar:
    """A bar below the lines of a terminal, which disappears at the end."""

    def __init__(self, console: Console, *, total: int, completed: int) -> None:
        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("steps"), StepRate(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True, refresh_per_second=REFRESHES_PER_SECOND)
        self._task = self._bar.add_task("training", total=total, completed=completed)
        self._bar.start()

    def update(self, step: int) -> None:
        self._bar.update(self._task, completed=step)

    def stop(self) -> None:
        self._bar.stop()


class StepRate(ProgressColumn):
    """Steps per second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} steps/s" if task.speed else "")


class CellBar:
    """A bar in the output of a notebook's cell, updated in place. It needs no widgets, and is empty at the end."""

    def __init__(self, *, total: int, completed: int) -> None:
        from IPython import display

        self._display: Any = display  # without types
        self._total, self._first = total, completed
        self._started_at = self._shown_at = time.perf_counter()
        self._handle = self._display.display(self._display.HTML(self._content(completed, 0.0)), display_id=True)

    def update(self, step: int) -> None:
        now = time.perf_counter()
        if now - self._shown_at >= 1 / REFRESHES_PER_SECOND:
            self._shown_at = now
            self._handle.update(
                self._display.HTML(self._content(step, (step - self._first) / (now - self._started_at)))
            )

    def stop(self) -> None:
        self._handle.update(self._display.HTML(""))

    def _content(self, step: int, rate: float) -> str:
        bar = f'<progress max="{self._total}" value="{step}" style="width: 20em" aria-label="training"></progress>'
        return f"{bar} {step:,}/{self._total:,} steps" + (f", {rate:,.0f} steps/s" if rate else "")
