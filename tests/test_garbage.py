"""Claims about Python's collector of garbage."""

import gc

from gptladder.garbage import nothing_collected


def test_while_imports_run_nothing_is_collected_and_what_they_leave_is_never_looked_through_again() -> None:
    before = gc.get_freeze_count()
    with nothing_collected():
        assert not gc.isenabled()
        kept = [[] for _ in range(1000)]
    assert gc.isenabled()
    assert gc.get_freeze_count() > before + len(kept)
    gc.unfreeze()


def test_whoever_switched_the_collector_off_keeps_it_off() -> None:
    gc.disable()
    try:
        with nothing_collected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
