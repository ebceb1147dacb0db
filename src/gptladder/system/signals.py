"""Handlers of SIGINT and SIGTERM."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def handle_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle both signals with ``handler`` in the body, and restore the previous handlers afterwards."""
    previous = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Exit with 130 on SIGINT and 143 on SIGTERM, anywhere in the body."""

    def exit_now(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    with handle_signals(exit_now):
        yield


@contextmanager
def deferred() -> Iterator[None]:
    """Defer SIGINT and SIGTERM until the body has finished."""
    arrived: list[int] = []

    # Not a signal mask: a mask holds for one thread, while Python runs handlers in the main thread
    # whichever thread received the signal.
    try:
        with handle_signals(lambda number, frame: arrived.append(number)):
            yield
    finally:
        for number in arrived[:1]:
            signal.raise_signal(number)
