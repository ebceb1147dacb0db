"""The curve of a row: its seeds' mean at every step that all of them reached, and the published one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gptladder.report.rows import Row, Spread
from gptladder.runs.published import published


@dataclass(frozen=True)
class Point:
    """A step and what was measured there; ``std`` is zero with one seed."""

    step: int
    mean: float
    std: float


def measured_curve(row: Row, key: str = "val_estimate") -> list[Point]:
    """The mean curve; what is not finite is left out, as no chart can show it."""
    curves = [{point["step"]: point.get(key) for point in reading.curve} for reading in row.measured]
    curves = [curve for curve in curves if curve]
    points = []
    for step in curves[0] if curves else ():
        if all(step in curve for curve in curves):
            spread = Spread.of(curve[step] for curve in curves)
            if spread is not None and math.isfinite(spread.mean):
                points.append(Point(int(step), spread.mean, spread.std or 0.0))
    return points


def published_curve(row: Row, key: str = "val_estimate") -> list[tuple[int, float]]:
    """The published points, for a row that holds the published recipe; the exact loss was never published."""
    if row.published is None or key not in ("train_estimate", "val_estimate"):
        return []
    column = 1 if key == "train_estimate" else 2
    last = max((point.step for point in measured_curve(row, key)), default=0)
    return [(point[0], point[column]) for point in published()[row.rung]["curve"] if point[0] <= last]
