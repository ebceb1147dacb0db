"""The published curves, and whether a run reproduces them."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

# The largest differences between the lecture's plain loop on a CPU and the published values. The shallow rungs agree in
# every printed digit; the deeper ones amplify rounding; "gpt" was trained on a GPU, which draws other dropout masks.
EXACT = {"last": 0.0, "anywhere": 0.0}
ROUNDED = {"last": 0.01, "anywhere": 0.03}
OTHER_HARDWARE = {"last": 0.03, "anywhere": 0.05}
TOLERANCES = {
    **dict.fromkeys(("bigram", "embedding", "singlehead", "multihead"), EXACT),
    **dict.fromkeys(("feedforward", "blocks", "residual", "layernorm"), ROUNDED),
    "gpt": OTHER_HARDWARE,
}


@cache
def published() -> dict[str, dict[str, Any]]:
    """By rung: the ``recipe`` of the published run, and its ``curve`` of step, train and val estimate."""
    text = (resources.files("gptladder.runs") / "published.json").read_text()
    rungs: dict[str, dict[str, Any]] = json.loads(text)["rungs"]
    return rungs


def compare(rung: str, recipe: dict[str, Any], curve: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Compare a run's curve with the published one, at every point that both have.

    Args:
        rung: the run's rung.
        recipe: all config values that determine the losses; see ``gptladder.runs.identity``.
        curve: the run's evaluations: ``step``, ``train_estimate``, ``val_estimate``.

    Returns:
        The last published point that the run reached, the largest difference at any shared point, and ``MATCH`` or
        ``DRIFT``; ``None`` where nothing was published for this recipe.
    """
    if rung not in published() or recipe != published()[rung]["recipe"]:
        return None
    values = {step: (train, val) for step, train, val in published()[rung]["curve"]}
    differences = {
        point["step"]: max(
            _difference(point["train_estimate"], values[point["step"]][0]),
            _difference(point["val_estimate"], values[point["step"]][1]),
        )
        for point in curve
        if point["step"] in values
    }
    if not differences:
        return None
    step = max(differences)
    largest = max(differences.values())
    within = differences[step] <= TOLERANCES[rung]["last"] and largest <= TOLERANCES[rung]["anywhere"]
    train, val = values[step]
    return {
        "step": step,
        "train": train,
        "val": val,
        "max_abs_diff": largest,
        "verdict": "MATCH" if within else "DRIFT",
    }


def _difference(measured: float, value: float) -> float:
    """The distance of a measured value from a published one; 0 if it rounds to the published digits."""
    difference = abs(measured - value)
    # Half of the last printed digit, and the rounding of single precision.
    return 0.0 if difference <= 0.5e-4 + 1e-6 else round(difference, 4)
