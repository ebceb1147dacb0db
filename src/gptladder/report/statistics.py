"""Means over seeds, and paired differences with Student's t."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class MeanStd:
    """A mean over seeds; ``std`` is the sample standard deviation, ``None`` with one seed."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def from_values(cls, values: Iterable[float | None]) -> MeanStd | None:
        """``None`` without any value."""
        numbers = [float(value) for value in values if value is not None]
        if not numbers:
            return None
        mean = sum(numbers) / len(numbers)  # statistics.mean raises on infinite values
        n = len(numbers)
        std = math.hypot(*(number - mean for number in numbers)) / math.sqrt(n - 1) if n > 1 else None
        return cls(mean, std, n)


@dataclass(frozen=True)
class PairedDifference:
    """The difference of the exact loss between two rows, seed by seed: what depends on the seed alone cancels.

    ``error`` is the standard error of the mean. The interval and the p-value are Student's, with n - 1 degrees of
    freedom; with one seed there are none.
    """

    mean: float
    error: float | None
    n: int

    @cached_property
    def half_width(self) -> float | None:
        """Half the width of the 95 % confidence interval."""
        return None if self.error is None else critical_value(0.05, self.n - 1) * self.error

    @property
    def p(self) -> float | None:
        """The probability of a difference at least this large, in either direction, if there is none."""
        if self.error is None:
            return None
        if not self.error:  # exactly the same difference with every seed
            return float(self.mean == 0)
        return p_value(self.mean / self.error, self.n - 1)

    @property
    def within_noise(self) -> bool | None:
        """Whether the 95 % confidence interval contains zero; ``None`` with one seed."""
        return None if self.half_width is None else abs(self.mean) <= self.half_width


def p_value(t: float, df: int) -> float:
    """The two-sided p-value of Student's t: the probability of a value at least as far from zero as ``t``.

    For an integer number of degrees of freedom. A finite series in the angle atan(t / sqrt(df)), from Abramowitz and
    Stegun (1964), 26.7.3 and 26.7.4.
    """
    angle = math.atan2(abs(t), math.sqrt(df))
    sin, cos = math.sin(angle), math.cos(angle)
    odd = df % 2
    term, total = (cos, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, df, 2):  # the terms up to cos^(df - 2)
        total += term
        term *= cos**2 * k / (k + 1)
    inside = (angle + sin * total) * 2 / math.pi if odd else sin * total
    return max(0.0, 1 - inside)


def critical_value(p: float, df: int) -> float:
    """The ``t`` with this two-sided p-value, such as 12.71 for ``p=0.05`` and ``df=1``."""
    low, high = 0.0, 1.0
    while p_value(high, df) > p:
        high *= 2
    for _ in range(60):  # bisection down to the precision of a float
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(middle, df) > p else (low, middle)
    return high
