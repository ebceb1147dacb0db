"""Two things timed in turn, so that whatever else the machine does happens to both."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).parents[2]
BASELINES = ROOT / "scripts" / "baselines"
CORPUS = Path(str(resources.files("gptladder.data.corpus") / "tinyshakespeare.txt"))


@dataclass(frozen=True)
class Row:
    """A line of the benchmark: ours, theirs, and how they compare; times are medians, in seconds."""

    what: str
    ours: str
    theirs: str
    comparison: str
    target: str


def in_turn(ours: Callable[[], float], theirs: Callable[[], float], pairs: int) -> tuple[float, float, float]:
    """Median seconds of both, and the median of ``theirs / ours`` over the pairs."""
    times = [(ours(), theirs()) for _ in range(pairs)]
    ratio = statistics.median(b / a for a, b in times)
    return statistics.median(a for a, _ in times), statistics.median(b for _, b in times), ratio


def process(*words: str | Path, cwd: Path) -> tuple[float, str]:
    """Seconds of a whole Python process, start-up included, and what it printed."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, words)], cwd=cwd, check=True, capture_output=True, text=True)
    return time.perf_counter() - started, done.stdout


def elsewhere() -> tempfile.TemporaryDirectory[str]:
    """A directory for runs that nobody keeps."""
    return tempfile.TemporaryDirectory(prefix="benchmark-")
