"""A signal ends a command with its exit code, also if a library catches the exit."""

import signal
from contextlib import suppress

import pytest

from gptladder.system.signals import exit_if_received, exit_on_signals

SIGNALS = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", SIGNALS)
def test_an_exit_that_is_caught_is_made_up_for_at_the_end(number: signal.Signals) -> None:
    with pytest.raises(SystemExit) as stop, exit_on_signals(), suppress(SystemExit):
        signal.raise_signal(number)
    assert stop.value.code == 128 + number
    exit_if_received()  # nothing is left over


@pytest.mark.parametrize("number", SIGNALS)
def test_an_exit_that_became_an_error_is_an_exit_again(number: signal.Signals) -> None:
    with pytest.raises(SystemExit) as stop, exit_on_signals():
        try:
            signal.raise_signal(number)
        except SystemExit as caught:
            raise ValueError("an error of a library") from caught
    assert stop.value.code == 128 + number


def test_a_caught_exit_ends_the_body_at_the_next_check() -> None:
    reached = False
    with pytest.raises(SystemExit) as stop, exit_on_signals():
        with suppress(SystemExit):
            signal.raise_signal(signal.SIGTERM)
        exit_if_received()
        reached = True
    assert stop.value.code == 143
    assert not reached


def test_without_a_signal_nothing_happens() -> None:
    with exit_on_signals():
        exit_if_received()
