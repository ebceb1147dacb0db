"""The published curves, and whether a run reproduces them."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

# How far the rung that was trained on a GPU may differ. A GPU draws other dropout masks; how far that carries the curve
# has not been measured.
GPT_TOLERANCE, GPT_LAST_TOLERANCE = 0.05, 0.03

# Half of the last printed digit, and the rounding of single precision.
PRINTED = 0.5e-4 + 1e-6

SO_FAR = "matches so far"
VERDICTS = ("DRIFT", SO_FAR, "MATCH")  # of several runs, the first that one of them has

Tolerances = dict[int, tuple[float, float]]  # by step: of the train and of the val estimate


class Point(NamedTuple):
    """An estimate at a step: its distance from the reference, and how far rounding alone may carry it.

    The last printed digit allows ``PRINTED`` on top of the tolerance.
    """

    step: int
    split: str
    difference: float
    tolerance: float

    @property
    def matches(self) -> bool:
        return self.difference <= self.tolerance + PRINTED

    @property
    def severity(self) -> tuple[bool, float]:
        """Orders points: those outside their tolerance come last, by how many times they exceed it."""
        return not self.matches, self.difference if self.matches else self.difference / (self.tolerance + PRINTED)


@cache
def published() -> dict[str, dict[str, Any]]:
    """By rung: the ``recipe`` of the published run, and its ``curve`` of step, train and val estimate."""
    rungs: dict[str, dict[str, Any]] = _read_json("published.json")["rungs"]
    return rungs


@cache
def rounding() -> dict[str, dict[str, Any]]:
    """By rung: the standard deviation ``sd`` of runs that differ by rounding alone, by step, train and val estimate.

    A run may differ by ``k * sqrt(2) * sd`` at each point. ``k`` depends on the number of points: if only rounding
    differs, all points are within that with a probability of at least 99 %. ``scripts/rounding.py`` measures them.
    """
    rungs: dict[str, dict[str, Any]] = _read_json("rounding.json")["rungs"]
    return rungs


def tolerances(rung: str) -> Tolerances:
    """How far rounding alone may carry a rung."""
    if rung == "gpt":
        steps = [step for step, _, _ in published()["gpt"]["curve"]]
        return dict.fromkeys(steps[:-1], (GPT_TOLERANCE, GPT_TOLERANCE)) | {
            steps[-1]: (GPT_LAST_TOLERANCE, GPT_LAST_TOLERANCE)
        }
    return tolerances_from(rounding()[rung])


def tolerances_from(measured: dict[str, Any]) -> Tolerances:
    """The tolerances for the multiple ``k`` and the standard deviations ``sd`` of a measurement."""
    scale = measured["k"] * math.sqrt(2)
    return {step: (scale * train, scale * val) for step, train, val in measured["sd"]}


def compare(rung: str, recipe: dict[str, Any], curve: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Compare a run's curve with the published one, at every point that both have.

    Args:
        rung: the run's rung.
        recipe: all config values that determine the losses; see ``gptladder.runs.identity``.
        curve: the run's evaluations: ``step``, ``train_estimate``, ``val_estimate``.

    Returns:
        See ``compare_curves``; ``None`` where nothing was published for this recipe.
    """
    if rung not in published() or recipe != published()[rung]["recipe"]:
        return None
    return compare_curves(curve, published()[rung]["curve"], tolerances(rung))


def compare_curves(
    curve: list[dict[str, Any]], reference: list[list[float]], allowed: Tolerances
) -> dict[str, Any] | None:
    """Compare a curve with a reference, a list of step, train and val estimate.

    Returns:
        ``None`` without a shared point, or else

        - ``step``, ``train``, ``val``: the last point of the reference that the curve reaches, and its ``last_step``;
        - ``verdict``: ``MATCH``; ``DRIFT`` if any point is outside its tolerance; ``matches so far`` for a curve that
          ends before the reference;
        - ``max_abs_diff``: the largest difference at any point;
        - ``worst_step``, ``worst_split``, ``worst_abs_diff``, ``tolerance``: the point with the largest difference, or
          the one that exceeds its tolerance the most.
    """
    values = {int(step): (train, val) for step, train, val in reference}
    points = [
        Point(step, split, abs(estimates[f"{split}_estimate"] - value), tolerance)
        for estimates in curve
        if (step := estimates["step"]) in values
        for split, value, tolerance in zip(("train", "val"), values[step], allowed[step], strict=True)
    ]
    if not points:
        return None
    worst = max(points, key=lambda point: point.severity)
    step, last_step = max(point.step for point in points), max(values)
    train, val = values[step]
    return {
        "step": step,
        "last_step": last_step,
        "train": train,
        "val": val,
        "max_abs_diff": _to_printed_digits(max(point.difference for point in points)),
        "worst_step": worst.step,
        "worst_split": worst.split,
        "worst_abs_diff": _to_printed_digits(worst.difference),
        "tolerance": round(worst.tolerance, 4),
        "verdict": "DRIFT" if not all(point.matches for point in points) else SO_FAR if step < last_step else "MATCH",
    }


def _to_printed_digits(difference: float) -> float:
    """A difference in the digits that were published; 0 if the measured value rounds to the published one."""
    return 0.0 if difference <= PRINTED else round(difference, 4)


def _read_json(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((resources.files("gptladder.runs") / name).read_text())
    return content
