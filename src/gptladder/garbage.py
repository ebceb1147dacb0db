"""Python's collector of cyclic garbage, kept from looking through what is there to stay.

What torch and Lightning consist of is half a million objects, none of them garbage. The collector would look through
them again and again: a quarter of the time of their imports, and a second when the process ends.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def nothing_collected() -> Iterator[None]:
    """Collect nothing in the body, and never what it leaves: for imports."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.freeze()
            gc.enable()
