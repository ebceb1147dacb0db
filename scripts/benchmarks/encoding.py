"""The cost of large texts: encoding them, and training on them."""

from __future__ import annotations

import json
import shutil
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

from .bare_loop import build_bare_loop
from .timing import CORPUS, ROOT, BenchmarkRow, compose_config, interleave, run_python, temp_dir

MB = 10**6
ENCODED_MB = 200
TRAINED_MB = 1000
STEPS = 500
BPE_PARTS = (("large", 1), ("small", 10))

# In a process of its own, which prints the seconds from file to tokens and the growth of its peak memory.
ENCODE = """
import json, sys, time
from gptladder.data.datamodule import TextDataModule
from gptladder.runs.environment import peak_memory_mb

before, started = peak_memory_mb(), time.perf_counter()
TextDataModule(path=sys.argv[1], cache=False)
print(json.dumps({"seconds": time.perf_counter() - started, "memory_mb": peak_memory_mb() - before}))
"""


def benchmark_encoding(pairs: int) -> Iterator[BenchmarkRow]:
    """Speed and memory of reading, checking, hashing and encoding a file, without the token cache."""
    with temp_dir() as directory:
        path = Path(directory, "large")
        size_mb = _write_text(path, ENCODED_MB * MB) / MB
        results = [json.loads(run_python("-c", ENCODE, path, cwd=ROOT)[1]) for _ in range(pairs)]
    seconds = statistics.median(result["seconds"] for result in results)
    memory = max(result["memory_mb"] for result in results) / size_mb
    yield BenchmarkRow(
        f"encoding {ENCODED_MB} MB of text",
        f"{size_mb / seconds:.0f} MB/s",
        "-",
        f"memory {memory:.1f}x the file size",
        "50 MB/s (stretch goal 150), memory <= 3x",
    )


# The same with byte-pair encoding, learned from the text that comes with the package. With a second argument, by the
# library alone, in pieces of a megabyte.
ENCODE_BPE = """
import json, sys, time
from gptladder.data import bpe
from gptladder.data.text import open_corpus, tiny_shakespeare
from gptladder.data.token_cache import encode_splits
from gptladder.runs.environment import peak_memory_mb

tokenizer = bpe.BPETokenizer.from_text(tiny_shakespeare(), vocab_size=1024)
if len(sys.argv) > 2:
    bpe.SHORT_TEXT = 2**40
splits = open_corpus(sys.argv[1]).split(0.9)
before, started = peak_memory_mb(), time.perf_counter()
encode_splits(*splits, tokenizer, cache=sys.argv[1] + "-cache")
print(json.dumps({"seconds": time.perf_counter() - started, "memory_mb": peak_memory_mb() - before}))
"""


def benchmark_bpe_encoding(pairs: int) -> Iterator[BenchmarkRow]:
    """Speed and memory of byte-pair encoding a large text into the token cache, and a tenth of it by the library."""
    with temp_dir() as directory:
        sizes = {name: _write_text(Path(directory, name), ENCODED_MB * MB // part) / MB for name, part in BPE_PARTS}

        def encode(name: str, *words: str) -> dict[str, float]:
            shutil.rmtree(Path(directory, f"{name}-cache"), ignore_errors=True)
            result: dict[str, float] = json.loads(
                run_python("-c", ENCODE_BPE, Path(directory, name), *words, cwd=ROOT)[1]
            )
            return {**result, "mb_per_second": sizes[name] / result["seconds"]}

        results = [(encode("large"), encode("small", "whole")) for _ in range(pairs)]
    ours, library = (statistics.median(pair[i]["mb_per_second"] for pair in results) for i in (0, 1))
    memory = max(result["memory_mb"] for result, _ in results)
    yield BenchmarkRow(
        f"tokenizer=bpe on {ENCODED_MB} MB of text",
        f"{ours:.1f} MB/s",
        f"{library:.1f} MB/s",
        f"{ours / library:.1f}x as fast, memory {memory:.0f} MB",
        "10 MB/s on two cores",
    )


def benchmark_corpus_size(pairs: int) -> Iterator[BenchmarkRow]:
    """A training step of a bigram, the rung with the cheapest steps, on a large and on a small text."""
    with temp_dir() as directory:
        small, large = (_build_loop(Path(directory, f"{size}.txt"), size, directory) for size in (1, TRAINED_MB))
        small(STEPS), large(STEPS)  # the first pages of the memory map come from the disk
        a, b, ratio = interleave(lambda: large(STEPS), lambda: small(STEPS), 3 * pairs)
    ours, baseline = (f"{1e3 * seconds / STEPS:.3f} ms" for seconds in (a, b))
    yield BenchmarkRow(
        f"a step of bigram on {TRAINED_MB:,} MB of text",
        ours,
        f"{baseline} on 1 MB",
        f"{1 / ratio:.2f}x as long",
        "1.1x (stretch goal 1.02x)",
    )


def _write_text(path: Path, size: int) -> int:
    """Write Tiny Shakespeare repeatedly, up to about ``size`` bytes; return the number of bytes written."""
    content = CORPUS.read_bytes()
    with path.open("wb") as file:
        for _ in range(max(1, size // len(content))):
            file.write(content)
    return path.stat().st_size


def _build_loop(path: Path, size_mb: int, directory: str) -> Callable[[int], float]:
    _write_text(path, size_mb * MB)
    overrides = (f"data.path={path}", f"data.cache={directory}/cache", f"run_dir={directory}")
    return build_bare_loop(compose_config("model=bigram", "data=text", *overrides))
