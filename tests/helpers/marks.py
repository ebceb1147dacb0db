"""Parts of a test that take long in sum, and say little more than the others."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow(values: Iterable[Any]) -> list[Any]:
    """Values of a parameter with which a test runs in ``pytest -m 'slow or not slow'`` only."""
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]
