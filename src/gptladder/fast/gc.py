"""Python's garbage collector, paused while large packages are imported.

Importing torch and Lightning creates half a million objects, none of them garbage. The collector would scan them again
and again. A run of one step takes 3.2 s instead of 4.0.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the collector while the body imports, and exclude what it imported from all later collections.

    If the body imports nothing new, as in the second job of a process, nothing is excluded: the objects that the first
    job left are collected as usual.
    """
    enabled, n_modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if len(sys.modules) > n_modules:
                gc.freeze()
            gc.enable()
