"""Means, paired differences and their tests."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptladder.report.statistics import PairedDifference, critical_value, holm, p_value
from helpers.configs import ROOT

CASES = json.loads((ROOT / "tests" / "recorded" / "ttest_rel.json").read_text())["cases"]
LOSSES = st.lists(st.tuples(*[st.integers(15_000, 30_000)] * 2), min_size=2, max_size=12)


def paired(a: list[float], b: list[float]) -> PairedDifference:
    difference = PairedDifference.from_values(x - y for x, y in zip(a, b, strict=True))
    assert difference is not None
    return difference


def assert_equals_scipy(difference: PairedDifference, p: float, low: float, high: float) -> None:
    assert difference.p == pytest.approx(p, rel=1e-6, abs=1e-12)
    assert difference.interval == pytest.approx((low, high), rel=1e-6, abs=1e-9)
    assert difference.within_noise == (low <= 0 <= high)


def test_paired_differences_equal_scipys_recorded_ttest_rel() -> None:
    for case in CASES:
        assert_equals_scipy(paired(case["a"], case["b"]), case["p"], case["low"], case["high"])


@given(LOSSES)
def test_paired_differences_equal_scipys_ttest_rel_where_it_is_installed(losses: list[tuple[int, int]]) -> None:
    # Not a dependency: where SciPy is installed, torchmetrics imports it at the start of every run.
    stats = pytest.importorskip("scipy.stats")
    a, b = ([loss / 10_000 for loss in column] for column in zip(*losses, strict=True))
    difference = paired(a, b)
    if not difference.std or difference.std < 1e-9:
        return  # SciPy warns that the differences are equal
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.95)
    assert_equals_scipy(difference, expected.pvalue, interval.low, interval.high)


@pytest.mark.parametrize(
    ("df", "expected"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (10, 2.228), (30, 2.042)]
)
def test_students_t_has_its_tabulated_critical_values(df: int, expected: float) -> None:
    assert critical_value(0.05, df) == pytest.approx(expected, abs=5e-4)
    assert p_value(-critical_value(0.05, df), df) == pytest.approx(0.05)


def with_error(mean: float, error: float, n: int) -> PairedDifference:
    return PairedDifference(mean, error * math.sqrt(n), n)


def test_the_noise_test_is_students_with_n_minus_1_degrees_of_freedom() -> None:
    two_errors = with_error(mean=2.0, error=1.0, n=3)
    assert two_errors.within_noise
    assert two_errors.p == pytest.approx(0.1835, abs=1e-4)
    assert not with_error(mean=4.31, error=1.0, n=3).within_noise


@pytest.mark.parametrize(("mean", "p"), [(0.0, 1.0), (0.1, 0.0)])
def test_equal_differences_of_all_seeds_have_an_interval_of_width_zero(mean: float, p: float) -> None:
    difference = with_error(mean, error=0.0, n=3)
    assert (difference.half_width, difference.p, difference.within_noise) == (0, p, mean == 0)


def test_a_difference_that_is_not_finite_is_neither_noise_nor_an_error() -> None:
    assert with_error(math.nan, math.nan, 3).within_noise is False


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [([], []), ([0.04], [0.04]), ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]), ([0.9, 0.8], [1.0, 1.0])],
)
def test_holms_correction(p_values: list[float], corrected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(corrected)
