"""The processes in which a launcher runs jobs, told to stop when the sweep is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from gptladder.runs.run import Run
from gptladder.system import signals

# Seconds in which a job must have ended with a checkpoint, the largest rung's step included.
PATIENCE = 60


@contextmanager
def forward_signals(runs: Sequence[Run]) -> Iterator[None]:
    """Hand SIGINT and SIGTERM on to the workers, which end their jobs with a checkpoint, and then end as they did.

    A launcher would kill its workers where they stand. A second signal does not wait for them.
    """
    received: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        if received:
            raise SystemExit(128 + number)
        received.append(number)
        stopping = [run for run in runs if run.is_locked]
        for worker in psutil.Process().children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                worker.terminate()
        # The first job that ends makes a launcher kill the rest: none may end before all have saved.
        deadline = time.monotonic() + PATIENCE
        while any(run.is_locked for run in stopping) and time.monotonic() < deadline:
            time.sleep(0.05)

    try:
        with signals.handle_signals(hand_on):
            yield
    except BaseException:
        if received:  # whatever the launcher makes of workers that end
            raise SystemExit(128 + received[0]) from None
        raise
    if received:
        raise SystemExit(128 + received[0])
