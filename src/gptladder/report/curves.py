"""The curves of a row: the mean over seeds at every step that all of them reached, and the published points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from gptladder.report.aggregate import Row, has_several_tokenizers
from gptladder.report.statistics import Mean
from gptladder.runs.published import published, tolerances

NATS = "nats per token"


@dataclass(frozen=True)
class CurvePoint:
    """A loss at a step; ``std`` is zero with one seed."""

    step: int
    mean: float
    std: float


def mean_curve(row: Row, key: str = "val_estimate", *, scale: float = 1.0) -> list[CurvePoint]:
    """The mean over seeds, times ``scale``; points that are not finite are left out: no chart can show them."""
    curves = [{point["step"]: point.get(key) for point in run.curve} for run in row.representative]
    curves = [curve for curve in curves if curve]
    points = []
    for step in curves[0] if curves else ():
        if all(step in curve for curve in curves):
            loss = Mean.from_values(curve[step] for curve in curves)
            if loss is not None and math.isfinite(loss.mean):
                points.append(CurvePoint(int(step), scale * loss.mean, scale * (loss.std or 0.0)))
    return points


class PublishedPoint(NamedTuple):
    """A published loss, and how far from it rounding alone may carry a run."""

    step: int
    loss: float
    tolerance: float


def published_curve(row: Row, key: str = "val_estimate") -> list[PublishedPoint]:
    """The published points, for a row with the published recipe; no exact loss was published."""
    if row.published is None or row.rung not in published() or key not in ("train_estimate", "val_estimate"):
        return []
    column = ("train_estimate", "val_estimate").index(key)
    last = max((point.step for point in mean_curve(row, key)), default=0)
    allowed = tolerances(row.rung)
    return [
        PublishedPoint(step, losses[column], allowed[step][column])
        for step, *losses in published()[row.rung]["curve"]
        if step <= last
    ]


def scales_and_unit(rows: list[Row]) -> tuple[list[float], str]:
    """The factor for the losses of each row, and their unit: nats per token, unless the rows' tokens differ."""
    scales = [row.bits_per_nat for row in rows]
    if has_several_tokenizers(rows) and any(scales):
        return [scale or math.nan for scale in scales], "bits per character"
    return [1.0] * len(rows), NATS
