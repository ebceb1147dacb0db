"""Claims about Python's collector of garbage."""

import gc
import importlib
import weakref
from pathlib import Path

import pytest

from gptladder.fast.gc import gc_paused


class Knot:
    """What only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


def test_while_imports_run_nothing_is_collected_and_what_they_leave_is_never_looked_through_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "never_seen_before.py").write_text("kept = [[] for _ in range(1000)]")
    monkeypatch.syspath_prepend(tmp_path)
    before = gc.get_freeze_count()
    with gc_paused():
        assert not gc.isenabled()
        importlib.import_module("never_seen_before")
    assert gc.isenabled()
    assert gc.get_freeze_count() > before + 1000
    gc.unfreeze()


def test_what_one_job_of_a_process_leaves_is_collected_although_the_next_imports_the_same_again() -> None:
    before = gc.get_freeze_count()
    knot = Knot()
    left = weakref.ref(knot)
    del knot
    with gc_paused():
        importlib.import_module("gptladder.fast.gc")
    gc.collect()
    assert left() is None
    assert gc.get_freeze_count() == before


def test_whoever_switched_the_collector_off_keeps_it_off() -> None:
    gc.disable()
    try:
        with gc_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
