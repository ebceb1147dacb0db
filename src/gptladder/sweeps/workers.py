"""Signals for the worker processes of a launcher."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from gptladder.runs.run import Run
from gptladder.system import signals

# Seconds for a job to finish its step, also of the largest rung, and to save a checkpoint.
GRACE_PERIOD = 60


@contextmanager
def forward_signals(runs: Sequence[Run]) -> Iterator[None]:
    """Forward SIGINT and SIGTERM to the workers, wait until their jobs have saved a checkpoint, and exit as they do.

    A launcher would kill its workers in the middle of a step. A second signal does not wait for them.
    """
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        if received:
            raise SystemExit(128 + number)
        received.append(number)
        stopping = [run for run in runs if run.is_locked]
        for worker in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                worker.terminate()
        # A launcher kills the other workers when the first one ends: wait until all jobs have saved.
        deadline = time.monotonic() + GRACE_PERIOD
        while any(run.is_locked for run in stopping) and time.monotonic() < deadline:
            time.sleep(0.05)

    try:
        with signals.handle_signals(forward):
            yield
    except BaseException:
        if received:  # the launcher may raise something else when workers end
            raise SystemExit(128 + received[0]) from None
        raise
    if received:
        raise SystemExit(128 + received[0])
