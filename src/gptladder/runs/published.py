"""The published curves, and whether a run reproduces them."""

from __future__ import annotations

import json
from functools import cache
from importlib import resources
from typing import Any

# How far the best plain loop on a CPU strays from the published figures. The shallow rungs agree in every printed
# digit; the deeper ones amplify rounding; "gpt" was trained on a GPU, whose dropout draws other masks.
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
    """What was published of each rung: its ``recipe``, and its ``curve`` of step, train and val estimate."""
    text = (resources.files("gptladder.runs") / "published.json").read_text()
    rungs: dict[str, dict[str, Any]] = json.loads(text)["rungs"]
    return rungs


def compare(rung: str, recipe: dict[str, Any], curve: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Hold a run's curve against the published one, point by point, as far as the run went.

    Args:
        rung: the run's rung.
        recipe: all that decides what the run learns; see ``gptladder.runs.identity``.
        curve: the run's evaluations: ``step``, ``train_estimate``, ``val_estimate``.

    Returns:
        The last shared published point, the largest difference on any shared point, and ``MATCH`` or ``DRIFT``;
        ``None`` where nothing was published for such a run.
    """
    if rung not in published() or recipe != published()[rung]["recipe"]:
        return None
    figures = {step: (train, val) for step, train, val in published()[rung]["curve"]}
    differences = {
        point["step"]: max(
            _difference(point["train_estimate"], figures[point["step"]][0]),
            _difference(point["val_estimate"], figures[point["step"]][1]),
        )
        for point in curve
        if point["step"] in figures
    }
    if not differences:
        return None
    step = max(differences)
    largest = max(differences.values())
    within = differences[step] <= TOLERANCES[rung]["last"] and largest <= TOLERANCES[rung]["anywhere"]
    train, val = figures[step]
    return {
        "step": step,
        "train": train,
        "val": val,
        "max_abs_diff": largest,
        "verdict": "MATCH" if within else "DRIFT",
    }


def _difference(measured: float, figure: float) -> float:
    """How far a measured value lies from a published one; nothing if it could have been printed as that."""
    difference = abs(measured - figure)
    # Half of the last printed digit, and what single precision adds to it.
    return 0.0 if difference <= 0.5e-4 + 1e-6 else round(difference, 4)
