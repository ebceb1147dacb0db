"""The speed of the framework against baselines: ``python scripts/benchmark.py [--only NAME ...] [--pairs N]``.

Every benchmark times our code and a baseline in turn, several times, on one machine; the ratio is the result. The
baselines are in ``scripts/baselines``.
"""

import argparse
import platform
from collections.abc import Callable, Iterator

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from benchmarks import encoding, generation, ladder, modern, pieces, plain, step, time_to_loss
from benchmarks.timing import BenchmarkRow

BENCHMARKS: dict[str, Callable[[int], Iterator[BenchmarkRow]]] = {
    "step": step.benchmark_step,
    "plain": plain.benchmark_plain_path,
    "pieces": pieces.benchmark_pieces,
    "start": ladder.benchmark_start,
    "generation": generation.benchmark_generation,
    "encoding": encoding.benchmark_encoding,
    "bpe": encoding.benchmark_bpe_encoding,
    "corpus_size": encoding.benchmark_corpus_size,
    "speedrun": time_to_loss.benchmark_speedrun,
    "marathon": time_to_loss.benchmark_marathon,
    "modern": modern.benchmark_modern,
    "rung": ladder.benchmark_rung,
    "ladder": ladder.benchmark_ladder,
    "seeds": ladder.benchmark_seeds,
}


def main() -> None:
    """Run the selected benchmarks and print one table."""
    parser = argparse.ArgumentParser(description="The speed of the framework against baselines.")
    parser.add_argument("--only", nargs="+", choices=BENCHMARKS, default=list(BENCHMARKS), help="run only these")
    parser.add_argument("--pairs", type=int, default=3, help="repetitions of candidate and baseline (default 3)")
    arguments = parser.parse_args()
    console = Console()
    machine = (
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} cores, torch {torch.__version__}"
    )
    table = Table(
        "benchmark",
        "ours",
        "baseline",
        "result",
        "target",
        title=escape(f"median of {arguments.pairs} pairs; {machine}"),
    )
    for name in arguments.only:
        with console.status(f"running {name}"):
            for row in BENCHMARKS[name](arguments.pairs):
                table.add_row(*map(Text, (row.name, row.ours, row.baseline, row.result, row.target)))
    console.print(table)


if __name__ == "__main__":
    main()
