"""How soon a loss is reached, beside nanoGPT's CPU recipe as a plain loop."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from .pairs import BASELINES, CORPUS, ROOT, Row, elsewhere, in_turn, process

SEEDS = (1, 2, 3)  # on none of which anything was tuned
GOAL = 1.898  # what the plain loop reaches


def measure_speedrun(arguments: Namespace) -> Iterator[Row]:
    """Whole processes; every seed has to reach the goal."""
    losses: list[float] = []

    def ours() -> float:
        runs = [_run("speedrun", seed) for seed in SEEDS]
        losses.extend(loss for _, loss in runs)
        return sum(seconds for seconds, _ in runs) / len(SEEDS)

    a, b, ratio = in_turn(ours, lambda: _nanogpt()[0], arguments.pairs)
    verdict = f"{ratio:.1f} times faster, worst loss {max(losses):.4f}"
    what = f"exact val loss {GOAL} with a context of 64, whole process"
    yield Row(
        what, f"{a:.1f} s", f"{b:.0f} s, nanoGPT's CPU recipe", verdict, f"12 times, dream 25 times, loss ≤ {GOAL}"
    )


def measure_marathon(arguments: Namespace) -> Iterator[Row]:
    """The loss that is reached in about the time of nanoGPT's CPU recipe."""
    losses: list[float] = []

    def ours() -> float:
        seconds, loss = _run("marathon", SEEDS[0])
        losses.append(loss)
        return seconds

    a, b, _ = in_turn(ours, lambda: _nanogpt()[0], arguments.pairs)
    what = "exact val loss at block 256 in the time of nanoGPT's CPU recipe"
    yield Row(what, f"{a:.0f} s", f"{b:.0f} s", f"loss {max(losses):.4f}", "≤ 1.50, dream 1.465 (GPU headline: 1.4697)")


def _run(experiment: str, seed: int) -> tuple[float, float]:
    with elsewhere() as directory:
        words = (f"experiment={experiment}", f"seed={seed}", "hydra.run.dir=run")
        seconds, _ = process(ROOT / "train.py", *words, cwd=Path(directory))
        return seconds, float(json.loads((Path(directory) / "run/result.json").read_text())["val_loss"])


def _nanogpt() -> tuple[float, float]:
    seconds, said = process(BASELINES / "nanogpt.py", CORPUS, cwd=ROOT)
    found = re.search(r"exact val loss ([\d.]+)", said)
    assert found is not None
    return seconds, float(found.group(1))
