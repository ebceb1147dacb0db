"""Check a GPU with one command: ``python scripts/gpu_checks.py [--out gpu_checks.json] [--seeds 1337 1338 1339]``.

It times ``model=gpt hardware=mixed`` next to nanoGPT's loop at the same sizes, compiled and eager, and runs every test
that needs a GPU. With ``--seeds`` it also trains ``gpt`` once per seed, and compares each curve with the published.
Findings are written after each part, so that a stopped command leaves those it has. Exit code 1: a test failed, a
compiled step takes over 1.02 times as long as nanoGPT's, the compiled network is in several pieces, or a curve is a
DRIFT.
"""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from argparse import Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gptladder.cli.script import FAILED, ArgumentParser, run_script
from gptladder.report.statistics import critical_value
from gptladder.runs.environment import environment
from gptladder.runs.published import compare_curves, published
from gptladder.runs.run import Run
from gptladder.system.errors import UserError
from gptladder.system.files import atomic_write

ROOT = Path(__file__).parents[1]
ALPHA = 0.01  # the probability that a run that differs by its seed alone is outside its tolerance anywhere, at most
GPT_DIGITS = 0.5e-3  # half of the last digit of the curve of gpt, which has three
NOTEBOOK_SECONDS = 16 * 60 + 45
MAX_TIMES_AS_LONG = 1.02  # as nanoGPT's compiled step: the medians of two series of equal steps differ as well
PARTS = ("speed", "tests", "compiled_tests")


def main() -> None:
    """Run the checks, write the findings and print them."""
    now = datetime.now(UTC)
    arguments = parse_arguments(now)

    import torch

    if not torch.cuda.is_available():
        raise UserError("PyTorch finds no CUDA GPU here, and every check needs one: run this on a machine that has one")
    findings: dict[str, Any] = {"date": now.isoformat(timespec="seconds"), **describe_machine()}

    def record(part: str, found: Any) -> None:
        findings[part] = found
        with atomic_write(arguments.out) as file:
            file.write((json.dumps(findings, indent=1) + "\n").encode())

    if "speed" in arguments.only:
        from benchmarks.gpu import compare_steps

        record("speed", compare_steps(findings["device"], n_steps=arguments.steps, pairs=arguments.pairs))
    if "tests" in arguments.only:
        record("tests", run_tests(arguments.jobs, "-m", "gpu and not slow"))
    if "compiled_tests" in arguments.only:
        record("compiled_tests", run_tests(arguments.jobs, "-m", "gpu and slow"))
    if arguments.seeds:
        results = [train_gpt(seed, arguments.runs / f"seed{seed}") for seed in arguments.seeds]
        record("gpt", compare_with_published(results))
    for line in summarize(findings):
        print(line)
    print(arguments.out)
    if not has_passed(findings):
        raise SystemExit(FAILED)


def parse_arguments(now: datetime) -> Namespace:
    """Read the command line; runs of this start of the command go to a directory of their own."""
    parser = ArgumentParser(description="Check everything that needs a GPU, and write the findings as JSON.")
    parser.add_argument("--out", type=Path, default=Path("gpu_checks.json"), help="where to write the findings")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="only these")
    n_jobs = min(8, max(1, (os.cpu_count() or 1) // 2))
    parser.add_argument("--jobs", type=int, default=n_jobs, help=f"tests at a time (here {n_jobs})")
    parser.add_argument("--steps", type=int, default=200, help="steps to time (default 200)")
    parser.add_argument("--pairs", type=int, default=3, help="repetitions of ours and nanoGPT's (default 3)")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[], metavar="SEED", help="also train gpt with each of these, at least 2"
    )
    runs = Path(f"outputs/gpu_checks/{now:%Y-%m-%d_%H-%M-%S}")
    parser.add_argument("--runs", type=Path, default=runs, help="where those runs go, or are resumed")
    arguments = parser.parse_args()
    if len(arguments.seeds) == 1:
        raise UserError("--seeds needs at least 2: the tolerance is measured over them")
    return arguments


def describe_machine() -> dict[str, Any]:
    """The GPU, and the versions of what computes on it."""
    import torch

    recorded = environment()
    cudnn: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    properties = torch.cuda.get_device_properties(0)
    return {
        "device": torch.cuda.get_device_name(0),
        "compute_capability": f"{properties.major}.{properties.minor}",
        "memory_mb": properties.total_memory // 2**20,
        "versions": {**recorded["versions"], "cuda": torch.version.cuda, "cudnn": cudnn},
        "git": recorded["git"],
    }


def run_tests(jobs: int, *selection: str) -> dict[str, Any]:
    """Run tests that need a GPU; counts, and the outcome of each.

    Args:
        jobs: tests at a time; all of them share the GPU.
        selection: arguments of pytest that select among them.
    """
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="gpu-checks-") as directory:
        report = Path(directory, "junit.xml")
        words = ("-q", "-n", str(jobs), f"--junit-xml={report}", "tests/test_gpu.py", *selection)
        subprocess.run([sys.executable, "-m", "pytest", *words], cwd=ROOT)
        tests = read_report(report)
    outcomes = [test["outcome"] for test in tests]
    return {
        **{outcome: outcomes.count(outcome) for outcome in ("passed", "failed", "skipped")},
        "seconds": round(time.perf_counter() - started, 1),
        "each": tests,
    }


def read_report(path: Path) -> list[dict[str, Any]]:
    """The name, outcome and seconds of each test in a JUnit file, and the first line of what failed."""
    if not path.exists():
        raise UserError(
            "pytest wrote no report, its own lines say why: pip install -e '.[test]' installs what it needs"
        )
    tests = []
    for case in ET.parse(path).iter("testcase"):
        problem = next((child for child in case if child.tag in ("failure", "error", "skipped")), None)
        outcome = "passed" if problem is None else "skipped" if problem.tag == "skipped" else "failed"
        test = {"name": case.get("name"), "outcome": outcome, "seconds": float(case.get("time", 0))}
        if problem is not None:
            test["message"] = (problem.get("message") or "").partition("\n")[0]
        tests.append(test)
    return tests


def train_gpt(seed: int, run_dir: Path) -> dict[str, Any]:
    """Train ``gpt`` with one seed, or resume that; its result."""
    words = ["model=gpt", "hardware=mixed", f"seed={seed}", f"hydra.run.dir={run_dir}"]
    subprocess.run([sys.executable, str(ROOT / "train.py"), *words], check=True)
    return Run.read(run_dir)


def compare_with_published(results: list[dict[str, Any]]) -> dict[str, Any]:
    """The verdict on each run of ``gpt`` by a tolerance that is measured over the runs.

    The published curve was trained on another GPU, whose dropout masks cannot be drawn again: it is one more draw. Its
    difference from a run has sqrt(2) times the standard deviation of the runs, which is pooled over the points of a
    split, because a few seeds tell too little about each point. The tolerance is ``k`` times that, with ``k`` from
    Student's t distribution, so that a run that differs by its seed alone is within it at all points with a
    probability of at least 99 % (Bonferroni). Seeds also differ in initial weights and batches, which makes the
    tolerance wider; points of one run depend on each other, which makes ``k`` a little too small.
    """
    reference = published()["gpt"]["curve"]
    steps = [int(step) for step, *_ in reference]
    values = {
        split: [[_at(result, step)[f"{split}_estimate"] for result in results] for step in steps]
        for split in ("train", "val")
    }
    sd = {split: math.sqrt(statistics.fmean(map(statistics.variance, points))) for split, points in values.items()}
    k = critical_value(ALPHA / (2 * len(steps)), (len(results) - 1) * len(steps))
    tolerance = {split: GPT_DIGITS + k * math.sqrt(2) * sd[split] for split in sd}
    allowed = dict.fromkeys(steps, (tolerance["train"], tolerance["val"]))
    runs = []
    for result in results:
        compared = compare_curves(result["curve"], reference, allowed)
        assert compared is not None
        runs.append(
            {
                "seed": result["seed"],
                **{key: result.get(key) for key in ("train_estimate", "val_estimate", "wall_seconds", "mfu")},
                "best_val_estimate": min(point["val_estimate"] for point in result["curve"]),
                **compared,
            }
        )
    return {
        "k": round(k, 3),
        "sd": {split: round(value, 5) for split, value in sd.items()},
        "tolerance": {split: round(value, 5) for split, value in tolerance.items()},
        "runs": runs,
        "verdict": "MATCH" if all(run["verdict"] == "MATCH" for run in runs) else "DRIFT",
        "notebook_wall_seconds": NOTEBOOK_SECONDS,
    }


def _at(result: dict[str, Any], step: int) -> dict[str, Any]:
    point: dict[str, Any] | None = next((point for point in result["curve"] if point["step"] == step), None)
    if point is None:
        raise UserError(f"the run with seed {result['seed']} has no estimates at step {step}: let it finish")
    return point


def has_passed(findings: dict[str, Any]) -> bool:
    """Whether nothing failed: the tests, the speed, the curves; a part that was left out says nothing."""
    tests = [findings[part] for part in ("tests", "compiled_tests") if part in findings]
    tests_passed = all(part["passed"] > 0 and not part["failed"] for part in tests)
    compiled = [row for row in findings.get("speed", []) if row["what"] == "gpt" and row["compiled"]]
    is_fast = all(row["times_as_long_as_nanogpt"] <= MAX_TIMES_AS_LONG and not row["graph_breaks"] for row in compiled)
    return tests_passed and is_fast and ("gpt" not in findings or findings["gpt"]["verdict"] == "MATCH")


def summarize(findings: dict[str, Any]) -> list[str]:
    """The findings in a few lines."""
    lines = [f"{findings['device']}, torch {findings['versions']['torch']}"]
    for part in ("tests", "compiled_tests"):
        if tests := findings.get(part):
            counts = ", ".join(f"{tests[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))
            lines.append(f"{part.replace('_', ' ')}: {counts}")
            lines += [f"  {test['name']}: {test['message']}" for test in tests["each"] if test["outcome"] == "failed"]
    for row in findings.get("speed", []):
        mfu = "unknown" if row["mfu"] is None else f"{100 * row['mfu']:.1f} %"
        ratio = f", {row['times_as_long_as_nanogpt']} times as long as nanoGPT" if row["what"] == "gpt" else ""
        lines.append(
            f"{row['what']} {'compiled' if row['compiled'] else 'eager'}: {row['ms_per_step']} ms per step, "
            f"{row['tokens_per_second']:,} tokens/s, MFU {mfu}, {row['peak_gpu_memory_mb']:,} MB{ratio}"
        )
        lines += [f"  in several pieces: {reason}" for reason in row.get("graph_breaks", [])]
    if gpt := findings.get("gpt"):
        for run in gpt["runs"]:
            lines.append(
                f"gpt seed {run['seed']}: train {run['train_estimate']:.4f}   val {run['val_estimate']:.4f}   "
                f"best val {run['best_val_estimate']:.4f}   {run['wall_seconds']:.0f} s   {run['verdict']}"
            )
        lines.append(f"gpt: {gpt['verdict']} within {gpt['tolerance']['train']:.4f} / {gpt['tolerance']['val']:.4f}")
    return lines


if __name__ == "__main__":
    run_script(main)
