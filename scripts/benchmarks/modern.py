"""The time of a step of each modern rung, and how many steps each takes in the time of nanoGPT's recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from .bare_loop import build_bare_loop
from .timing import BenchmarkRow, compose_config, interleave

BASELINE = "nanogpt"
RUNGS = ("rope", "rmsnorm", "swiglu", "gqa", "llama")
STEPS = 100


def benchmark_modern(pairs: int) -> Iterator[BenchmarkRow]:
    """Steps of each modern rung and of nanoGPT's recipe in turn, without Lightning and evaluation, on one thread."""
    baseline = _build(BASELINE)
    n_steps = compose_config(f"model={BASELINE}").trainer.max_steps
    for rung in RUNGS:
        ours, theirs, ratio = interleave(partial(_build(rung), STEPS), partial(baseline, STEPS), pairs)
        equal = f"{ratio * n_steps:,.0f} steps in the time of {n_steps:,}"
        ms = [f"{1e3 * seconds / STEPS:.2f} ms" for seconds in (ours, theirs)]
        yield BenchmarkRow(f"a step of {rung}", ms[0], f"{ms[1]}, {BASELINE}", equal, "-")


def _build(rung: str) -> Callable[[int], float]:
    take_steps = build_bare_loop(compose_config(f"model={rung}", "hardware.threads=1", "run_dir=unused"))
    take_steps(STEPS)  # the first steps are slower
    return take_steps
