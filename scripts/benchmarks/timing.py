"""Interleaved timing: candidate and baseline run in turn, so that other load on the machine affects both."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

ROOT = Path(__file__).parents[2]
BASELINES = ROOT / "scripts" / "baselines"
CORPUS = Path(str(resources.files("gptladder.data.corpus") / "tinyshakespeare.txt"))


@dataclass(frozen=True)
class BenchmarkRow:
    """One line of the benchmark table: our value, the baseline's, and how they compare. Times are medians."""

    name: str
    ours: str
    baseline: str
    result: str
    target: str


def interleave(candidate: Callable[[], float], baseline: Callable[[], float], pairs: int) -> tuple[float, float, float]:
    """Time both in turn; return the median seconds of each and the median of ``baseline / candidate``."""
    times = [(candidate(), baseline()) for _ in range(pairs)]
    ratio = statistics.median(b / a for a, b in times)
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times), ratio


def run_python(*arguments: str | Path, cwd: Path) -> tuple[float, str]:
    """Run a Python process; return its seconds, start-up included, and its stdout."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.stderr.write(done.stderr)
        done.check_returncode()
    return time.perf_counter() - started, done.stdout


def run_training(*overrides: str) -> tuple[float, dict[str, Any]]:
    """Run ``train.py`` in a temporary directory; return the seconds of the process and the run's result."""
    with temp_dir() as directory:
        seconds, _ = run_python(ROOT / "train.py", *overrides, "hydra.run.dir=run", cwd=Path(directory))
        return seconds, json.loads(Path(directory, "run/result.json").read_text())


def compose_config(*overrides: str) -> DictConfig:
    """Compose the config of a run."""
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("train", list(overrides))


def temp_dir() -> tempfile.TemporaryDirectory[str]:
    """Create a directory for runs that are deleted after timing."""
    return tempfile.TemporaryDirectory(prefix="benchmark-")
