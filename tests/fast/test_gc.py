"""The garbage collector is paused during imports, and what they created is never scanned again."""

import gc
import importlib
import weakref
from pathlib import Path

import pytest

from gptladder.fast.gc import gc_paused


class Cycle:
    """An object that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


def test_imports_run_without_gc_and_are_frozen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new_module.py").write_text("kept = [[] for _ in range(1000)]")
    monkeypatch.syspath_prepend(tmp_path)
    before = gc.get_freeze_count()
    with gc_paused():
        assert not gc.isenabled()
        importlib.import_module("new_module")
    assert gc.isenabled()
    assert gc.get_freeze_count() > before + 1000
    gc.unfreeze()


def test_garbage_of_one_job_is_collected_in_the_next() -> None:
    before = gc.get_freeze_count()
    cycle = Cycle()
    reference = weakref.ref(cycle)
    del cycle
    with gc_paused():
        importlib.import_module("gptladder.fast.gc")
    gc.collect()
    assert reference() is None
    assert gc.get_freeze_count() == before


def test_disabled_gc_stays_disabled() -> None:
    gc.disable()
    try:
        with gc_paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
