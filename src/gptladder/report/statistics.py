"""Means over seeds with Student's t intervals, paired differences, and the correction for several tests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Self

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Mean:
    """A mean over seeds; ``std`` is the sample standard deviation, ``None`` with one seed."""

    mean: float
    std: float | None
    n: int

    @classmethod
    def from_values(cls, values: Iterable[float | None]) -> Self | None:
        """``None`` without any value."""
        numbers = [float(value) for value in values if value is not None]
        if not numbers:
            return None
        mean = sum(numbers) / len(numbers)  # statistics.mean raises on infinite values
        n = len(numbers)
        std = math.hypot(*(number - mean for number in numbers)) / math.sqrt(n - 1) if n > 1 else None
        return cls(mean, std, n)

    def scaled(self, factor: float) -> Mean:
        """The same in another unit."""
        return Mean(factor * self.mean, None if self.std is None else factor * self.std, self.n)

    @property
    def error(self) -> float | None:
        """The standard error of the mean."""
        return None if self.std is None else self.std / math.sqrt(self.n)

    @cached_property
    def half_width(self) -> float | None:
        """Half the width of the 95 % confidence interval of the mean, by Student's t."""
        return None if self.error is None else critical_value(1 - CONFIDENCE, self.n - 1) * self.error

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % confidence interval of the mean."""
        return None if self.half_width is None else (self.mean - self.half_width, self.mean + self.half_width)


@dataclass(frozen=True)
class PairedDifference(Mean):
    """The mean difference of a loss between two rows, seed by seed: what depends on the seed alone cancels.

    ``p_corrected`` is the p-value corrected for all differences that are tested together.
    """

    p_corrected: float | None = None

    @property
    def p(self) -> float | None:
        """Student's t-test: the probability of a mean at least this far from zero, if there is no difference."""
        if self.error is None:
            return None
        if not self.error:  # exactly the same difference with every seed
            return float(self.mean == 0)
        return p_value(self.mean / self.error, self.n - 1)

    @property
    def within_noise(self) -> bool | None:
        """Whether the 95 % confidence interval contains zero; ``None`` with one seed."""
        return None if self.half_width is None else abs(self.mean) <= self.half_width


def correct_p_values(differences: Sequence[PairedDifference]) -> list[PairedDifference]:
    """The same differences with p-values corrected for their number; one seed has none."""
    tested = [i for i, each in enumerate(differences) if each.p is not None and math.isfinite(each.p)]
    corrected = dict(zip(tested, holm([differences[i].p or 0.0 for i in tested]), strict=True))
    return [replace(each, p_corrected=corrected.get(i)) for i, each in enumerate(differences)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Correct p-values for their number (Holm 1979), so that one wrong result among all stays as rare as with one test.

    Of n p-values the smallest is multiplied by n, the next one by n - 1, and so on; none falls below a smaller one's.
    """
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    corrected = [0.0] * len(p_values)
    lowest = 0.0
    for rank, i in enumerate(order):
        lowest = max(lowest, min(1.0, p_values[i] * (len(p_values) - rank)))
        corrected[i] = lowest
    return corrected


def p_value(t: float, df: int) -> float:
    """The two-sided p-value of Student's t: the probability of a value at least as far from zero as ``t``."""
    # Not SciPy: if it is installed, torchmetrics imports it at the start of every run (1.1 s on two busy cores).
    import mpmath  # type: ignore[import-untyped]

    if not math.isfinite(t):
        return math.nan
    return float(mpmath.betainc(df / 2, 0.5, 0, df / (df + t * t), regularized=True))


@cache
def critical_value(p: float, df: int) -> float:
    """The ``t`` with this two-sided p-value, such as 12.71 for ``p=0.05`` and ``df=1``."""
    low, high = 0.0, 1.0
    while p_value(high, df) > p:
        high *= 2
    for _ in range(60):  # bisection down to the precision of a float
        middle = (low + high) / 2
        low, high = (middle, high) if p_value(middle, df) > p else (low, middle)
    return high
