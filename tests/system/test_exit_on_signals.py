"""A signal ends a command with its exit code, also if a library catches the exit."""

import signal
from collections.abc import Callable
from contextlib import suppress

import pytest

from gptladder.system.signals import exit_if_received, exit_on_signals

SIGNALS = [signal.SIGINT, signal.SIGTERM]


def exit_code(command: Callable[[], object]) -> int:
    """The exit code of a command that is stopped by a signal."""
    with pytest.raises(SystemExit) as stop, exit_on_signals():
        command()
    exit_if_received()  # nothing is left for the next command
    return int(str(stop.value.code))


@pytest.mark.parametrize("number", SIGNALS)
def test_a_command_whose_exit_was_caught_ends_with_the_exit_code(number: signal.Signals) -> None:
    def command() -> None:
        with suppress(SystemExit):
            signal.raise_signal(number)

    assert exit_code(command) == 128 + number


@pytest.mark.parametrize("number", SIGNALS)
def test_an_exit_that_became_an_error_is_an_exit_again(number: signal.Signals) -> None:
    def command() -> None:
        try:
            signal.raise_signal(number)
        except SystemExit as caught:
            raise ValueError("an error of a library") from caught

    assert exit_code(command) == 128 + number


def test_a_caught_exit_ends_the_command_at_the_next_check() -> None:
    reached: list[str] = []

    def command() -> None:
        with suppress(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        reached.append("before the check")
        exit_if_received()
        reached.append("after it")

    assert exit_code(command) == 143
    assert reached == ["before the check"]


def test_without_a_signal_nothing_happens() -> None:
    reached = False
    with exit_on_signals():
        exit_if_received()
        reached = True
    assert reached
