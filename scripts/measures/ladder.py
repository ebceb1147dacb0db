"""The published rungs against the lecture's plain loop: all of them by one command, one alone, and the start of it."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from gptladder.runs.published import published

from .pairs import BASELINES, CORPUS, ROOT, Row, elsewhere, in_turn, process

ALONE = ("multihead", "layernorm")


def measure_ladder(arguments: Namespace) -> Iterator[Row]:
    """From process start to table, beside the plain loop on its better number of threads."""
    rungs = [rung for rung in published() if rung != "gpt"]

    def ours() -> float:
        with elsewhere() as directory:
            return process(ROOT / "train.py", "experiment=ladder", f"model={','.join(rungs)}", cwd=Path(directory))[0]

    a, b, ratio = in_turn(ours, lambda: _plain(*rungs)[0], arguments.pairs)
    what = "the eight published rungs, from start to table"
    yield Row(
        what,
        f"{a:.0f} s",
        f"{b:.0f} s, the lecture's plain loop",
        f"{ratio:.2f} times faster",
        "4 times, dream 6 times",
    )


def measure_rung(arguments: Namespace) -> Iterator[Row]:
    """Training and evaluations of one rung, without start-up."""
    for rung in ALONE:

        def ours(rung: str = rung) -> float:
            with elsewhere() as directory:
                process(ROOT / "train.py", f"model={rung}", "hydra.run.dir=run", cwd=Path(directory))
                return float(json.loads((Path(directory) / "run/result.json").read_text())["wall_seconds"])

        a, b, ratio = in_turn(ours, lambda rung=rung: _plain(rung)[1], arguments.pairs)  # type: ignore[misc]
        what = f"{rung} alone, without start-up"
        yield Row(
            what,
            f"{a:.1f} s",
            f"{b:.1f} s, the lecture's plain loop",
            f"{ratio:.2f} times faster",
            "3 times, dream 5 times",
        )


def measure_start(arguments: Namespace) -> Iterator[Row]:
    """A run of one step, beside the imports that it cannot do without."""

    def ours() -> float:
        with elsewhere() as directory:
            return process(ROOT / "train.py", "model=bigram", "trainer.max_steps=1", cwd=Path(directory))[0]

    a, b, ratio = in_turn(ours, lambda: process("-c", "import torch, lightning", cwd=ROOT)[0], arguments.pairs)
    comparison = f"{1 / ratio:.2f} times as long"
    yield Row(
        "start-up: a run of one step",
        f"{a:.1f} s",
        f"{b:.1f} s, the imports",
        comparison,
        "1.5 times, dream 1.15 times",
    )


def _plain(*rungs: str) -> tuple[float, float]:
    """Seconds of the plain loop's process, and of its training and estimates alone."""
    return _timed(*rungs, threads=_better_threads())


@cache
def _better_threads() -> int:
    """What the plain loop is quicker with, as one short rung shows."""
    return min((1, 2), key=lambda threads: _timed("bigram", threads=threads)[1])


def _timed(*rungs: str, threads: int) -> tuple[float, float]:
    seconds, said = process(BASELINES / "lecture.py", CORPUS, *rungs, "--threads", str(threads), cwd=ROOT)
    return seconds, sum(float(found) for found in re.findall(r"in ([\d.]+) s", said))
