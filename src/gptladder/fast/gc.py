"""Python's collector of cyclic garbage, kept from looking through what is there to stay.

What torch and Lightning consist of is half a million objects, none of them garbage. The collector would look through
them again and again: a quarter of the time of their imports, and a second when the process ends.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def gc_paused() -> Iterator[None]:
    """Collect nothing while the body imports, and never what it imported.

    Where all was imported before, as in the second job of a process, what lies about is what the first has left, and
    is collected as ever.
    """
    collecting, n_modules = gc.isenabled(), len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            if len(sys.modules) > n_modules:
                gc.freeze()
            gc.enable()
