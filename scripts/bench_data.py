"""What a text costs: to encode it, and a training step as it grows.

Two measures for ``scripts/benchmark.py``; by itself, ``python scripts/bench_data.py [--only encoding|corpus_growth]``.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table

from gptladder.assembly import build_data, build_learner
from gptladder.learner import next_token_loss
from gptladder.text import shakespeare

CONF = Path(__file__).parents[1] / "conf"
MB = 10**6

# In a process of its own: the most memory that it ever held, before and after, and the seconds between.
ENCODE = """
import json, sys, time
from gptladder.data import TextData
from gptladder.run import _peak_mb
from gptladder.tokenizer import CharTokenizer

path, cache = sys.argv[1], sys.argv[2] or False
before, started = _peak_mb(), time.perf_counter()
data = TextData(
    path=path, tokenizer=CharTokenizer.from_text, split=0.9, block_size=8, batch_size=32, stream="published",
    estimate_batches=200, seed=1337, cache=cache,
)
print(json.dumps({"seconds": time.perf_counter() - started, "peak": _peak_mb(), "growth": _peak_mb() - before}))
"""


def encoding(arguments: argparse.Namespace) -> Table:
    """Megabytes a second from file to tokens (read, checked, hashed, counted, encoded), and memory against the file."""
    table = Table(title=f"a text of {arguments.megabytes} MB from file to tokens, median of {arguments.pairs}")
    for name in ("text", "tokens", "MB/s", "peak of the process, MB", "of it for the text / file"):
        table.add_column(name, justify="left" if name in ("text", "tokens") else "right")
    with tempfile.TemporaryDirectory() as directory:
        for name, content in {"ASCII": shakespeare(), "mixed": shakespeare().replace("e", "é")}.items():
            path, cache = Path(directory, name), Path(directory, "cache")
            size = written(path, content, arguments.megabytes * MB) / MB
            for kind, kept in (("in memory", ""), ("into a file", cache), ("from the file", cache)):
                figures = []
                for _ in range(arguments.pairs):
                    if kind == "into a file":
                        for file in cache.glob("*"):
                            file.unlink()
                    figures.append(_encoded(path, kept))
                seconds, peak, growth = (
                    statistics.median(figure[key] for figure in figures) for key in ("seconds", "peak", "growth")
                )
                table.add_row(name, kind, f"{size / seconds:.0f}", f"{peak:.0f}", f"{growth / size:.2f}")
    return table


def corpus_growth(arguments: argparse.Namespace) -> Table:
    """Milliseconds a training step on a text of 1 MB and on large ones, in turn; the ratio is the pairs' median."""
    table = Table(
        title=f"milliseconds a step as the text grows, median of {arguments.pairs} pairs of {arguments.steps}"
    )
    for name in ("rung", "text, MB", "1 MB", "this text", "ratio"):
        table.add_column(name, justify="left" if name == "rung" else "right")
    with tempfile.TemporaryDirectory() as directory:
        small = Path(directory, "small")
        written(small, shakespeare(), MB)
        for megabytes in arguments.corpora:
            large = Path(directory, "large")
            written(large, shakespeare(), megabytes * MB)
            for rung in arguments.rungs:
                few, many = (_stepper(rung, path, directory) for path in (small, large))
                few(arguments.steps), many(arguments.steps)  # the first pages of a map come from the disk
                pairs = [(few(arguments.steps), many(arguments.steps)) for _ in range(arguments.pairs)]
                before, after = (1e3 * statistics.median(times) / arguments.steps for times in zip(*pairs, strict=True))
                ratio = statistics.median(b / a for a, b in pairs)
                table.add_row(rung, f"{megabytes:,}", f"{before:.3f}", f"{after:.3f}", f"{ratio:.3f}")
    return table


MEASURES = {"encoding": encoding, "corpus_growth": corpus_growth}


def add_options(parser: argparse.ArgumentParser) -> None:
    """What these two measures are asked besides ``--rungs``, ``--steps`` and ``--pairs``."""
    parser.add_argument("--megabytes", type=int, default=200, help="of the text that is encoded")
    parser.add_argument("--corpora", type=int, nargs="+", default=[100, 1000], help="MB, held against 1 MB")


def written(path: Path, content: str, size: int) -> int:
    """A file of about so many bytes; returns how many they are."""
    block = content.encode()
    with path.open("wb") as file:
        for _ in range(max(1, size // len(block))):
            file.write(block)
    return path.stat().st_size


def _encoded(path: Path, cache: Path | str) -> dict[str, float]:
    words = [sys.executable, "-c", ENCODE, str(path), str(cache)]
    figures: dict[str, float] = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return figures


def _stepper(rung: str, path: Path, directory: str) -> Callable[[int], float]:
    """What takes so many training steps on a text and says how many seconds they took."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        own = [f"data.path={path}", f"data.cache={directory}/cache", f"run_dir={directory}"]
        cfg = compose("train", [f"model={rung}", "data=text", *own])
    torch.manual_seed(cfg.seed)
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    instantiate(cfg.hardware).prepare(learner.net)
    optimizer = learner.build_optimizer(learner.net.named_parameters())
    blocks: Iterator[tuple[torch.Tensor, torch.Tensor]] = iter(data.train_blocks())

    def steps(n: int) -> float:
        started = time.perf_counter()
        for _ in range(n):
            loss = next_token_loss(learner.net, next(blocks))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return time.perf_counter() - started

    return steps


def main() -> None:
    """Print the measures that were asked for."""
    parser = argparse.ArgumentParser(description="What a text costs: to encode it, and a step as it grows.")
    parser.add_argument("--only", choices=MEASURES, help="one measure instead of both")
    parser.add_argument("--rungs", nargs="+", default=["bigram", "layernorm"], help="whose steps are timed")
    parser.add_argument("--steps", type=int, default=500, help="of one turn")
    parser.add_argument("--pairs", type=int, default=5, help="how often the two take turns")
    add_options(parser)
    arguments = parser.parse_args()
    for name, measure in MEASURES.items():
        if arguments.only in (None, name):
            Console().print(measure(arguments))


if __name__ == "__main__":
    main()
