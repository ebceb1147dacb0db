"""The published rungs against the lecture's plain loop: the whole ladder, single rungs, and start-up."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

from gptladder.runs.published import published

from .timing import BASELINES, CORPUS, ROOT, BenchmarkRow, interleave, run_python, run_training, temp_dir

RUNGS = ("multihead", "layernorm")


def benchmark_ladder(pairs: int) -> Iterator[BenchmarkRow]:
    """All published rungs with one command, from process start to the table."""
    rungs = _published_rungs()
    a, b, ratio = interleave(_run_ladder, lambda: _run_lecture(*rungs)[0], pairs)
    yield BenchmarkRow(
        f"the {len(rungs)} published rungs, from start to table",
        f"{a:.0f} s",
        f"{b:.0f} s, the lecture's plain loop",
        f"{ratio:.2f}x faster",
        "6x (stretch goal 8x)",
    )


def benchmark_seeds(pairs: int) -> Iterator[BenchmarkRow]:
    """The published rungs with ten seeds, per seed, against one seed alone."""
    seeds = range(1, 11)
    a, b, ratio = interleave(lambda: _run_ladder(f"seed={','.join(map(str, seeds))}") / len(seeds), _run_ladder, pairs)
    yield BenchmarkRow(
        f"the published rungs with {len(seeds)} seeds, per seed",
        f"{a:.0f} s",
        f"{b:.0f} s, one seed alone",
        f"{1 / ratio:.2f}x as long",
        "0.9x (stretch goal 0.6x)",
    )


def _published_rungs() -> list[str]:
    return [rung for rung in published() if rung != "gpt"]


def _run_ladder(*overrides: str) -> float:
    """The seconds of a sweep over the published rungs."""
    with temp_dir() as directory:
        arguments = ("experiment=ladder", f"model={','.join(_published_rungs())}", *overrides)
        return run_python(ROOT / "train.py", *arguments, cwd=Path(directory))[0]


def benchmark_rung(pairs: int) -> Iterator[BenchmarkRow]:
    """Training and evaluation of single rungs, without start-up."""

    def train(rung: str) -> float:
        return float(run_training(f"model={rung}")[1]["wall_seconds"])

    def train_lecture(rung: str) -> float:
        return _run_lecture(rung)[1]

    for rung in RUNGS:
        a, b, ratio = interleave(partial(train, rung), partial(train_lecture, rung), pairs)
        yield BenchmarkRow(
            f"{rung} without start-up",
            f"{a:.1f} s",
            f"{b:.1f} s, the lecture's plain loop",
            f"{ratio:.2f}x faster",
            "4.5x (stretch goal 6x)",
        )


def benchmark_start(pairs: int) -> Iterator[BenchmarkRow]:
    """A run of one step, against importing torch and Lightning."""

    def start() -> float:
        return run_training("model=bigram", "trainer.max_steps=1")[0]

    a, b, ratio = interleave(start, lambda: run_python("-c", "import torch, lightning", cwd=ROOT)[0], pairs)
    yield BenchmarkRow(
        "start-up: a run of one step",
        f"{a:.1f} s",
        f"{b:.1f} s, the imports",
        f"{1 / ratio:.2f}x as long",
        "0.7x (stretch goal 0.5x)",
    )


def _run_lecture(*rungs: str) -> tuple[float, float]:
    """Run the plain loop; return the seconds of its process, and of training and estimates alone."""
    return _time_lecture(*rungs, threads=_best_threads())


@cache
def _best_threads() -> int:
    """Find the number of threads with which the plain loop is faster, on one short rung."""
    return min((1, 2), key=lambda threads: _time_lecture("bigram", threads=threads)[1])


def _time_lecture(*rungs: str, threads: int) -> tuple[float, float]:
    seconds, stdout = run_python(BASELINES / "lecture.py", CORPUS, *rungs, "--threads", str(threads), cwd=ROOT)
    return seconds, sum(float(number) for number in re.findall(r"in ([\d.]+) s", stdout))
