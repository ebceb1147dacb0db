"""The plain code (``fast=false``) against the fast one, and against stock Lightning."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial

from .timing import BASELINES, CORPUS, ROOT, BenchmarkRow, interleave, run_python, run_training

RUNGS = ("bigram", "multihead", "layernorm")
STEPS = 3000


def benchmark_plain_path(pairs: int) -> Iterator[BenchmarkRow]:
    """Whole runs without and with ``gptladder.fast``, then single steps without it and with stock Lightning."""
    for rung in RUNGS:
        a, b, ratio = interleave(partial(_time_run, rung, "false"), partial(_time_run, rung, "true"), pairs)
        yield BenchmarkRow(
            f"{rung} with fast=false, whole process",
            f"{a:.1f} s",
            f"{b:.1f} s with fast=true",
            f"{1 / ratio:.2f}x as long",
            "-",
        )
    for rung in RUNGS:
        a, b, ratio = interleave(partial(_time_step, rung), partial(_time_stock_step, rung), pairs)
        yield BenchmarkRow(
            f"a training step of {rung} with fast=false",
            f"{a:.3f} ms",
            f"{b:.3f} ms, stock Lightning",
            f"{1 / ratio:.2f}x as long",
            "<= 1.0x",
        )


def _time_run(rung: str, fast: str) -> float:
    return run_training(f"model={rung}", f"fast={fast}")[0]


def _time_step(rung: str) -> float:
    """Milliseconds per training step; the only evaluations are before the first step and after the last one."""
    steps = (f"trainer.max_steps={STEPS}", f"trainer.val_check_interval={STEPS}")
    _, result = run_training(f"model={rung}", "fast=false", *steps)
    return 1e3 * float(result["train_seconds"]) / STEPS


def _time_stock_step(rung: str) -> float:
    _, stdout = run_python(BASELINES / "stock_lightning.py", CORPUS, rung, "--steps", str(STEPS), cwd=ROOT)
    found = re.search(r"([\d.]+) ms per step", stdout)
    assert found is not None
    return float(found[1])
