"""Measure how far rounding alone carries each published rung: ``python scripts/rounding.py [--runs 16] [--jobs 2]``.

Two processors round sums differently, and training amplifies the difference. To measure how much, the lecture's plain
loop (``scripts/baselines/lecture.py``) trains every published rung N times with the published seed, and each time
multiplies every initial weight by 1 + 1e-7 * noise. The standard deviation of the N estimates at each step is sd(t).

``--curves`` keeps the curves, so that a stopped measurement goes on. Once all are there, the script writes
``rounding.json`` next to the published curves, and compares the runs with each other and with the published curve.
"""

from __future__ import annotations

import json
import platform
import re
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from gptladder.cli.script import ArgumentParser, run_script
from gptladder.data.text import tiny_shakespeare
from gptladder.report.statistics import critical_value
from gptladder.runs import published

sys.path.insert(0, str(Path(__file__).parent / "baselines"))
import lecture  # type: ignore[import-not-found]

ROOT = Path(__file__).parents[1]
CURVES = ROOT / "tests" / "recorded" / "rounding_curves.json"
MEASURED = ROOT / "src" / "gptladder" / "runs" / "rounding.json"
NOISE = 1e-7  # relative; single precision rounds to 6e-8
ALPHA = 0.01  # the probability that rounding alone carries any point of a run outside its tolerance, at most

Curve = list[list[float]]  # step, train estimate, val estimate


def main() -> None:
    """Train what is missing, write the standard deviations and print how many runs match."""
    parser = ArgumentParser(description="Measure how far rounding alone carries each published rung.")
    parser.add_argument("--runs", type=int, default=16, help="runs of each rung (default 16)")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, on one thread each (default 2)")
    parser.add_argument("--curves", type=Path, default=CURVES, help="the file that keeps the curves of all runs")
    arguments = parser.parse_args()
    rungs = [rung for rung in published.published() if rung != "gpt"]  # which takes hours on a processor
    curves = train_missing(rungs, arguments.runs, arguments.jobs, arguments.curves)
    MEASURED.write_text(to_json(measure(curves)))
    published.rounding.cache_clear()
    Console().print(table_of_verdicts(curves))


def train_missing(rungs: list[str], runs: int, jobs: int, path: Path) -> dict[str, dict[str, Curve]]:
    """The curves by rung and number of the run; each is written to ``path`` as soon as it is there."""
    curves: dict[str, dict[str, Curve]] = json.loads(path.read_text()) if path.exists() else {}
    missing = [(rung, run) for run in range(runs) for rung in rungs if str(run) not in curves.get(rung, {})]
    with ProcessPoolExecutor(jobs, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        jobs_of = {pool.submit(train_perturbed, rung, run): (rung, run) for rung, run in missing}
        for done, job in enumerate(as_completed(jobs_of), start=1):
            rung, run = jobs_of[job]
            curves.setdefault(rung, {})[str(run)] = job.result()
            path.write_text(to_json(curves))
            print(f"{done} of {len(missing)}: {rung}, run {run}", flush=True)
    return {rung: curves[rung] for rung in rungs}


def train_perturbed(rung: str, run: int) -> Curve:
    """Train a rung with its initial weights multiplied by 1 + 1e-7 * noise, which the number of the run seeds."""
    generator = torch.Generator().manual_seed(run)  # leaves the global generator, and so all batches, as published

    @torch.no_grad()
    def perturb(net: torch.nn.Module) -> None:
        for weight in net.parameters():
            weight.mul_(1 + NOISE * torch.randn(weight.shape, generator=generator))

    settings = lecture.Settings(rung)
    curve = lecture.train(settings, tiny_shakespeare(), settings.max_steps, after_init=perturb)
    return [[step, round(train, 6), round(val, 6)] for step, train, val in curve]


def measure(curves: dict[str, dict[str, Curve]]) -> dict[str, Any]:
    """The content of ``rounding.json``."""
    (runs,) = {len(of_rung) for of_rung in curves.values()}
    return {
        "what": "Standard deviations of the estimates over runs of the lecture's plain loop with initial weights "
        f"multiplied by 1 + {NOISE} * noise: step, train, val. Written by scripts/rounding.py.",
        "runs": runs,
        "processor": processor(),
        "torch": torch.__version__,
        "date": datetime.now(UTC).date().isoformat(),
        "rungs": {rung: measure_rung(list(of_rung.values())) for rung, of_rung in curves.items()},
    }


def measure_rung(curves: list[Curve]) -> dict[str, Any]:
    """The multiple and the standard deviations of one rung."""
    return {"k": multiple(len(curves), n_points=2 * len(curves[0])), "sd": deviations(curves)}


def multiple(runs: int, n_points: int) -> float:
    """How many times sqrt(2) * sd(t) two runs may differ at a point.

    If only rounding differs, the difference of two runs divided by sqrt(2) * sd(t) has Student's t distribution with
    N - 1 degrees of freedom, where sd(t) was measured with N runs. A probability of ``ALPHA / n_points`` at each point
    is one of at most ``ALPHA`` at any of them (Bonferroni).
    """
    return round(critical_value(ALPHA / n_points, runs - 1), 3)


def deviations(curves: list[Curve]) -> Curve:
    """Step, and the standard deviation of both estimates over the runs."""
    return [
        [int(points[0][0]), *(round(statistics.stdev(point[column] for point in points), 6) for column in (1, 2))]
        for points in zip(*curves, strict=True)
    ]


def table_of_verdicts(curves: dict[str, dict[str, Curve]]) -> Table:
    """How many runs match the published curve, each other, and the mean of the others by the others' deviations."""
    table = Table("rung", "k", "largest sd", "match the published", "pairs that match", "match the others alone")
    for rung, of_rung in curves.items():
        runs = list(of_rung.values())
        measured = published.rounding()[rung]
        allowed = published.tolerances(rung)
        counts = (
            [matches(run, published.published()[rung]["curve"], allowed) for run in runs],
            [matches(a, b, allowed) for a, b in combinations(runs, 2)],
            [matches_others(run, [other for other in runs if other is not run]) for run in runs],
        )
        largest = max(max(point[1:]) for point in measured["sd"])
        shares = (f"{sum(count)} of {len(count)}" for count in counts)
        table.add_row(rung, f"{measured['k']}", f"{largest:.4f}", *shares)
    return table


def matches_others(run: Curve, others: list[Curve]) -> bool:
    """Whether a run matches the mean of others, with tolerances that it had no part in."""
    return matches(run, mean_curve(others), published.tolerances_from(measure_rung(others)))


def mean_curve(curves: list[Curve]) -> Curve:
    """The mean of each estimate at each step."""
    return [[statistics.fmean(values) for values in zip(*points, strict=True)] for points in zip(*curves, strict=True)]


def matches(curve: Curve, reference: Curve, allowed: published.Tolerances) -> bool:
    """Whether the verdict on a curve is MATCH."""
    points = [{"step": step, "train_estimate": train, "val_estimate": val} for step, train, val in curve]
    compared = published.compare_curves(points, reference, allowed)
    return compared is not None and compared["verdict"] == "MATCH"


def to_json(value: dict[str, Any]) -> str:
    """JSON with a line for each list of numbers."""
    text = json.dumps(value, indent=1)
    return re.sub(r"\[\s+([-\d.e]+),\s+([-\d.e]+),\s+([-\d.e]+)\s+\]", r"[\1, \2, \3]", text) + "\n"


def processor() -> str:
    """The name of the processor; Python knows it on some systems only."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


if __name__ == "__main__":
    run_script(main)
