"""The n-gram baseline."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gptladder.cli.script import ArgumentParser, run_dir

if TYPE_CHECKING:
    from torch import Tensor

    from gptladder.data.tokenizer import Tokenizer

BLOCK_SIZE = 8  # of all rungs but `gpt`
HEADING = "order  context  exact val loss  bits/char  in windows of {:<2} seconds"
LINE = "{order:>5}  {context:>7}  {val_loss:>14.4f}  {val_bits_per_char:>9.4f}  {in_windows:>16.4f} {seconds:>7.2f}"


def main() -> None:
    """Print the exact loss of an n-gram model of each order, on the splits of the rungs."""
    parser = ArgumentParser(description="The exact loss of n-gram models, which count instead of training a network.")
    parser.add_argument(
        "--order", type=int, nargs="+", default=range(1, 7), help="n, of the n-gram models (default: 1 to 6)"
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--text", type=Path, help="a UTF-8 file instead of Tiny Shakespeare, by characters, split 90/10"
    )
    source.add_argument("--run", type=run_dir, help="a run directory, or latest: its text and its windows")
    parser.add_argument("--json", action="store_true", help="print one JSON object per order")
    arguments = parser.parse_args()

    train, val, tokenizer, block_size = load_splits(arguments.text, arguments.run)
    rows = [evaluate_order(order, train, val, tokenizer, block_size) for order in arguments.order]
    if arguments.json:
        print("\n".join(map(json.dumps, rows)))
        return
    print(HEADING.format(block_size))
    print("\n".join(LINE.format(**row) for row in rows))
    print("context: tokens before each prediction, except at the start of the split;")
    print(f"in windows: 1 to {block_size} tokens of context, as for a rung with block_size={block_size}")


def load_splits(text: Path | None, run: Path | None) -> tuple[Tensor, Tensor, Tokenizer, int]:
    """The tokens of the training and the validation split, their tokenizer, and the window size to compare with."""
    from gptladder.data.text import open_corpus, tiny_shakespeare_corpus
    from gptladder.data.token_cache import encode_splits
    from gptladder.data.tokenizer import CharTokenizer
    from gptladder.runs.checkpoint import load_trained, recorded_tokens
    from gptladder.runs.run import checkpoint_path

    if run is not None:
        trained = load_trained(checkpoint_path(run))
        return *recorded_tokens(trained), trained.tokenizer, trained.block_size
    corpus = tiny_shakespeare_corpus() if text is None else open_corpus(text, key="--text")
    splits = corpus.split(0.9)
    tokenizer = CharTokenizer.from_text(*splits)
    return *encode_splits(*splits, tokenizer, cache=False), tokenizer, BLOCK_SIZE


def evaluate_order(order: int, train: Tensor, val: Tensor, tokenizer: Tokenizer, block_size: int) -> dict[str, float]:
    """The exact loss of one order, and the seconds to count and to evaluate."""
    from gptladder.evaluation.loss import bits_per_char
    from gptladder.evaluation.ngram import NGram
    from gptladder.system.threads import single_thread

    with single_thread():
        started = time.perf_counter()
        ngram = NGram(train, order=order, vocab_size=tokenizer.vocab_size)
        loss = ngram.loss(val)
        seconds = time.perf_counter() - started
    return {
        "order": order,
        "context": order - 1,
        "val_loss": loss,
        "val_bits_per_char": bits_per_char(loss, tokens_per_char=len(val) / len(tokenizer.decode(val))),
        "block_size": block_size,
        "in_windows": ngram.loss(val, block_size=block_size),
        "seconds": seconds,
    }
