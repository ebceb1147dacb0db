"""The curves of a row: the mean over seeds at every step that all of them reached, and the published points."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gptladder.report.aggregate import Row
from gptladder.report.statistics import MeanStd
from gptladder.runs.published import published


@dataclass(frozen=True)
class CurvePoint:
    """A loss at a step; ``std`` is zero with one seed."""

    step: int
    mean: float
    std: float


def mean_curve(row: Row, key: str = "val_estimate") -> list[CurvePoint]:
    """The mean over seeds; points that are not finite are left out, because no chart can show them."""
    curves = [{point["step"]: point.get(key) for point in run.curve} for run in row.representative]
    curves = [curve for curve in curves if curve]
    points = []
    for step in curves[0] if curves else ():
        if all(step in curve for curve in curves):
            loss = MeanStd.from_values(curve[step] for curve in curves)
            if loss is not None and math.isfinite(loss.mean):
                points.append(CurvePoint(int(step), loss.mean, loss.std or 0.0))
    return points


def published_curve(row: Row, key: str = "val_estimate") -> list[tuple[int, float]]:
    """The published points, for a row with the published recipe; no exact loss was published."""
    if row.published is None or key not in ("train_estimate", "val_estimate"):
        return []
    column = 1 if key == "train_estimate" else 2
    last = max((point.step for point in mean_curve(row, key)), default=0)
    return [(point[0], point[column]) for point in published()[row.rung]["curve"] if point[0] <= last]
