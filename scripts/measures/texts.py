"""What a text costs: from file to tokens, and a training step as the corpus grows."""

from __future__ import annotations

import json
import statistics
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

from hydra import compose, initialize_config_dir

from .loop import bare_loop
from .pairs import CORPUS, ROOT, Row, elsewhere, in_turn, process

MB = 10**6
LARGE = 200  # MB, to be encoded
LARGEST = 1000  # MB, to be trained on
STEPS = 500

# In a process of its own: seconds from file to tokens, and the memory that they took at most.
ENCODE = """
import json, sys, time
from gptladder.data.datamodule import TextDataModule
from gptladder.runs.run import _peak_mb
from gptladder.data.tokenizer import CharTokenizer

before, started = _peak_mb(), time.perf_counter()
TextDataModule(
    path=sys.argv[1], tokenizer=CharTokenizer.from_text, split=0.9, block_size=8, batch_size=32, stream="published",
    estimate_batches=200, seed=1337, cache=False,
)
print(json.dumps({"seconds": time.perf_counter() - started, "growth": _peak_mb() - before}))
"""


def measure_encoding(arguments: Namespace) -> Iterator[Row]:
    """Read, checked, hashed, counted and encoded, without a cache, and the memory that it takes beside the file."""
    with elsewhere() as directory:
        path = Path(directory, "large")
        size = _written(path, LARGE * MB) / MB
        said = [json.loads(process("-c", ENCODE, path, cwd=ROOT)[1]) for _ in range(arguments.pairs)]
    seconds = statistics.median(figures["seconds"] for figures in said)
    growth = max(figures["growth"] for figures in said) / size
    speed, memory = f"{size / seconds:.0f} MB/s", f"{growth:.1f} of the file in memory"
    yield Row(f"encoding {LARGE} MB of text", speed, "—", memory, "50 MB/s, dream 150; at most 3 files")


def measure_growth(arguments: Namespace) -> Iterator[Row]:
    """A step of a bigram, the rung that would feel it most."""
    with elsewhere() as directory:
        steppers = []
        for size in (1, LARGEST):
            path = Path(directory, f"{size}.txt")
            _written(path, size * MB)
            steppers.append(_stepper(path, directory))
        few, many = steppers
        few(STEPS), many(STEPS)  # the first pages of a map come from the disk
        a, b, ratio = in_turn(lambda: many(STEPS), lambda: few(STEPS), 3 * arguments.pairs)
    ours, theirs = (f"{1e3 * seconds / STEPS:.3f} ms" for seconds in (a, b))
    what = f"a step of bigram on {LARGEST:,} MB of text"
    yield Row(what, ours, f"{theirs} on 1 MB", f"{1 / ratio:.2f} times as long", "1.1 times, dream 1.02 times")


def _written(path: Path, size: int) -> int:
    """Shakespeare again and again; returns the bytes that it came to."""
    block = CORPUS.read_bytes()
    with path.open("wb") as file:
        for _ in range(max(1, size // len(block))):
            file.write(block)
    return path.stat().st_size


def _stepper(path: Path, directory: str) -> Callable[[int], float]:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        own = [f"data.path={path}", f"data.cache={directory}/cache", f"run_dir={directory}"]
        return bare_loop(compose("train", ["model=bigram", "data=text", *own]))
