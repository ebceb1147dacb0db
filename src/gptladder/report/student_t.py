"""Student's t distribution with a whole number of degrees of freedom."""

from __future__ import annotations

import math


def p_value(t: float, df: int) -> float:
    """The two-sided p-value: the probability of a value at least as far from zero as ``t``.

    A finite series in the angle atan(t / sqrt(df)), from Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
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
