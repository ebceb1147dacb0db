"""The worker processes of a launcher: they are stopped by signals, and end with the process that started them."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import FrameType

import psutil

from gptladder.runs.run import Run
from gptladder.system import signals

POLL_SECONDS = 0.5

# Set while a worker has no job.
_idle = threading.Event()

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


@contextmanager
def end_with_parent(parent: int) -> Iterator[None]:
    """Run a job in a worker that ends soon after the process that started it, however that one ended.

    The job saves a checkpoint first, as after SIGTERM. Without this, a worker whose parent was killed finishes its job,
    and then waits for the next one for minutes.

    Args:
        parent: its process ID.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        _idle.wait(GRACE_PERIOD)
        os._exit(128 + signal.SIGTERM)

    _idle.clear()
    if not any(thread.name == watch.__qualname__ for thread in threading.enumerate()):
        threading.Thread(target=watch, name=watch.__qualname__, daemon=True).start()
    try:
        yield
    finally:
        _idle.set()
