"""Many runs in one process take no more memory or threads than one."""

import gc
import signal
import threading
from pathlib import Path

import lightning.pytorch as L
import pytest

from helpers.configs import trained
from helpers.runs import killed_at, small


def trainers() -> int:
    gc.collect()
    return sum(type(each) is L.Trainer for each in gc.get_objects())


@pytest.mark.parametrize("fast", ["true", "false"])
def test_a_run_leaves_no_trainer_thread_or_signal_handler_behind(fast: str, tmp_path: Path) -> None:
    words = (*small(tmp_path), f"fast={fast}")
    trained(tmp_path / "first", *words)  # what is imported at the first run stays
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    before, threads = trainers(), threading.active_count()
    for number in range(3):
        trained(tmp_path / str(number), *words)
    assert trainers() <= before
    assert threading.active_count() <= threads
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers


def test_nor_does_a_run_that_failed(tmp_path: Path) -> None:
    words = small(tmp_path)
    trained(tmp_path / "first", *words)
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    before = trainers()
    for number in range(3):
        with killed_at(3):
            trained(tmp_path / str(number), *words)
    assert trainers() <= before + 1  # the last traceback may still be there
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
