"""Handlers of SIGINT and SIGTERM."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


def can_handle_signals() -> bool:
    """Whether this thread may install handlers: only the main thread may, and signals interrupt no other."""
    return threading.current_thread() is threading.main_thread()


@contextmanager
def handle_signals(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Handle both signals with ``handler`` in the body, and restore the previous handlers afterwards.

    In a thread other than the main one, nothing is handled.
    """
    if not can_handle_signals():
        yield
        return
    previous = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)


_received: list[int] = []


@contextmanager
def exit_on_signals() -> Iterator[None]:
    """Exit with 130 on SIGINT and 143 on SIGTERM, anywhere in the body.

    A library may catch the exit or turn it into an error of its own: a finalizer, a callback from C, a composition of
    configs. The body then still ends with the exit code of the signal, and ``exit_if_received`` ends it earlier.
    """

    def exit_now(number: int, frame: FrameType | None) -> None:
        _received.append(number)
        raise SystemExit(128 + number)

    if not can_handle_signals():
        yield
        return
    _received.clear()
    with handle_signals(exit_now):
        try:
            yield
        finally:
            received = _received.copy()
            _received.clear()
            if received:
                raise SystemExit(128 + received[0])


def exit_if_received() -> None:
    """Exit if a signal was received whose exit something else caught."""
    if _received and can_handle_signals():
        raise SystemExit(128 + _received[0])


@contextmanager
def defer_signals() -> Iterator[None]:
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
