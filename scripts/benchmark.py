"""What the framework costs and what it saves: ``python scripts/benchmark.py [--only NAME ...] [--pairs N]``.

Every line holds something of ours against something else, in turn and several times, in one run on one machine: the
ratio is what to read. The baselines are plain loops in ``scripts/baselines``.
"""

import argparse
import platform
from collections.abc import Callable, Iterator

import torch
from rich.console import Console
from rich.table import Table

from measures import ladder, race, step, texts, writing
from measures.pairs import Row

MEASURES: dict[str, Callable[[argparse.Namespace], Iterator[Row]]] = {
    "step": step.measure,
    "start": ladder.measure_start,
    "writing": writing.measure,
    "encoding": texts.measure_encoding,
    "growth": texts.measure_growth,
    "speedrun": race.measure_speedrun,
    "marathon": race.measure_marathon,
    "rung": ladder.measure_rung,
    "ladder": ladder.measure_ladder,
}


def main() -> None:
    """Print the measures that were asked for."""
    parser = argparse.ArgumentParser(description="What the framework costs, and what it saves.")
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES), help="these measures alone")
    parser.add_argument("--pairs", type=int, default=3, help="how often the two sides take turns (default 3)")
    arguments = parser.parse_args()
    console = Console()
    machine = (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} cores, torch {torch.__version__}"
    )
    table = Table(
        "what", "ours", "against", "measured", "target", title=f"median of {arguments.pairs} pairs; {machine}"
    )
    for name in arguments.only:
        with console.status(f"measuring {name}"):
            for row in MEASURES[name](arguments):
                table.add_row(row.what, row.ours, row.theirs, row.comparison, row.target)
    console.print(table)


if __name__ == "__main__":
    main()
