"""What SIGINT and SIGTERM do to a command: end it with their exit code, after what must not be cut in two."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handle_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Both signals are answered by ``handler`` meanwhile, and by whoever did before afterwards."""
    previous = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """SIGINT and SIGTERM end the program with 130 and 143, wherever it stands."""

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    with handle_signals(leave):
        yield


@contextmanager
def deferred() -> Iterator[None]:
    """What arrives meanwhile is answered at the end: what is made here is whole when a signal takes effect."""
    arrived: list[int] = []

    # A mask would not do: it is one thread's, and the handler runs in this one whichever thread was hit.
    try:
        with handle_signals(lambda number, frame: arrived.append(number)):
            yield
    finally:
        for number in arrived[:1]:
            signal.raise_signal(number)
