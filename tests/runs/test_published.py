"""The verdict: a run that differs by rounding alone matches the published curve, and any other does not."""

import json
import statistics
from itertools import combinations
from typing import Any

import pytest

from gptladder.report.statistics import critical_value
from gptladder.runs.published import PRINTED, SO_FAR, compare_curves, published, rounding, tolerances
from helpers.configs import ROOT

CURVES: dict[str, dict[str, list[list[float]]]] = json.loads(
    (ROOT / "tests" / "recorded" / "rounding_curves.json").read_text()
)
SHALLOW = ("bigram", "embedding", "singlehead", "multihead")
MEASURED = [rung for rung in published() if rung != "gpt"]


def points(curve: list[list[float]], shift: float = 0.0, at: int | None = None) -> list[dict[str, Any]]:
    """A curve as ``result.json`` has it; ``shift`` moves the val estimate, everywhere or ``at`` one step."""
    return [
        {"step": step, "train_estimate": train, "val_estimate": val + (shift if at in (None, step) else 0)}
        for step, train, val in curve
    ]


def verdict(rung: str, curve: list[list[float]], reference: list[list[float]]) -> str:
    compared = compare_curves(points(curve), reference, tolerances(rung))
    assert compared is not None
    return str(compared["verdict"])


@pytest.mark.parametrize("rung", MEASURED)
def test_the_standard_deviations_are_those_of_the_recorded_runs(rung: str) -> None:
    runs = list(CURVES[rung].values())
    assert len(runs) >= 16
    for step, *sd in rounding()[rung]["sd"]:
        estimates = [next(point[1:] for point in run if point[0] == step) for run in runs]
        assert sd == pytest.approx([statistics.stdev(column) for column in zip(*estimates, strict=True)], abs=1e-6)


@pytest.mark.parametrize("rung", MEASURED)
def test_the_multiple_keeps_an_honest_run_within_its_tolerance_in_99_of_100(rung: str) -> None:
    n_points = 2 * len(published()[rung]["curve"])
    assert rounding()[rung]["k"] == pytest.approx(critical_value(0.01 / n_points, len(CURVES[rung]) - 1), abs=1e-3)


@pytest.mark.parametrize("rung", MEASURED)
def test_every_recorded_run_matches_the_published_curve(rung: str) -> None:
    assert {verdict(rung, curve, published()[rung]["curve"]) for curve in CURVES[rung].values()} == {"MATCH"}


@pytest.mark.parametrize("rung", MEASURED)
def test_every_recorded_run_matches_the_mean_of_the_others(rung: str) -> None:
    for number, curve in CURVES[rung].items():
        others = [other for other_number, other in CURVES[rung].items() if other_number != number]
        mean = [
            [statistics.fmean(values) for values in zip(*same_step, strict=True)]
            for same_step in zip(*others, strict=True)
        ]
        assert verdict(rung, curve, mean) == "MATCH"


@pytest.mark.parametrize("rung", MEASURED)
def test_99_of_100_pairs_of_recorded_runs_match(rung: str) -> None:
    verdicts = [verdict(rung, a, b) for a, b in combinations(CURVES[rung].values(), 2)]
    assert verdicts.count("MATCH") >= 0.99 * len(verdicts)


@pytest.mark.parametrize("rung", SHALLOW)
def test_a_shallow_rung_must_agree_in_every_printed_digit(rung: str) -> None:
    assert max(max(pair) for pair in tolerances(rung).values()) < 1e-4


@pytest.mark.parametrize("rung", MEASURED)
def test_rounding_explains_little_in_the_first_200_steps(rung: str) -> None:
    assert max(tolerances(rung)[0]) < 1e-4
    assert max(tolerances(rung)[200]) < 2e-3


@pytest.mark.parametrize("rung", [*MEASURED, "gpt"])
def test_one_point_outside_its_tolerance_is_a_drift_and_is_named(rung: str) -> None:
    curve = published()[rung]["curve"]
    for step, _, _ in curve:
        allowed = tolerances(rung)[step][1] + PRINTED
        inside = compare_curves(points(curve, 0.98 * allowed, at=step), curve, tolerances(rung))
        outside = compare_curves(points(curve, 1.02 * allowed + 1e-4, at=step), curve, tolerances(rung))
        assert inside is not None
        assert outside is not None
        assert (inside["verdict"], outside["verdict"]) == ("MATCH", "DRIFT")
        assert (outside["worst_step"], outside["worst_split"]) == (step, "val")
        assert outside["worst_abs_diff"] > outside["tolerance"] == round(allowed - PRINTED, 4)


def test_a_curve_that_ends_early_matches_so_far() -> None:
    curve = published()["multihead"]["curve"]
    compared = compare_curves(points(curve[:4]), curve, tolerances("multihead"))
    assert compared is not None
    assert (compared["verdict"], compared["step"], compared["last_step"]) == (SO_FAR, 600, 4999)
    drifted = compare_curves(points(curve[:4], 0.01), curve, tolerances("multihead"))
    assert drifted is not None
    assert drifted["verdict"] == "DRIFT"


def test_a_loss_that_is_not_a_number_is_a_drift() -> None:
    curve = published()["multihead"]["curve"]
    compared = compare_curves(points(curve, float("nan"), at=600), curve, tolerances("multihead"))
    assert compared is not None
    assert compared["verdict"] == "DRIFT"
