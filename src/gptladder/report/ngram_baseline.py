"""The n-gram baseline of the report: the loss that counting reaches on the text of the runs, without a network."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from gptladder.report.aggregate import Row
from gptladder.report.load_runs import RunRecord
from gptladder.system.commands import script_command
from gptladder.system.errors import UserError

ORDER = 5  # the best order on Tiny Shakespeare
MAX_TOKENS = 20_000_000  # more would take longer to count than the rest of the report


@dataclass(frozen=True)
class NGramLoss:
    """The exact loss of an n-gram model that sees no more context than the runs with this ``block_size``."""

    label: str
    description: str
    block_size: int
    loss: float
    bits_per_char: float


@dataclass(frozen=True)
class NGramBaseline:
    """The losses of the n-gram model, one for each ``block_size`` of the runs; without any, the note says why."""

    note: str
    losses: tuple[NGramLoss, ...] = ()


def compute_ngram_baseline(rows: list[Row]) -> NGramBaseline:
    """Count the text that all finished runs share; the checkpoint of one of them says which text that is."""
    runs = [run for row in rows for run in row.ended]
    if len({run.result.get("corpus_sha256") for run in runs}) > 1 or len(set(map(_data_key, rows)) - {None}) > 1:
        return _no_baseline("the runs differ in text, split or tokenizer")
    run = next((run for run in runs if run.checkpoint.is_file()), None)
    if run is None:
        return _no_baseline("no finished run has a checkpoint, which says what text to count")
    try:
        return _compute(run, rows)
    except (UserError, LookupError) as error:  # must not stop the rest of the report
        return _no_baseline(" ".join(str(error).partition(": ")[0].split()))  # without the remedy of another command


def _compute(run: RunRecord, rows: list[Row]) -> NGramBaseline:
    # Imported here: loading torch takes longer than a report of runs without a checkpoint.
    from gptladder.data.tokenizer import CharTokenizer
    from gptladder.evaluation.ngram import NGram
    from gptladder.runs.checkpoint import load_trained, recorded_tokens
    from gptladder.system.threads import single_thread

    trained = load_trained(run.checkpoint)
    train, val = recorded_tokens(trained)
    if len(train) > MAX_TOKENS:
        return _no_baseline(f"{len(train):,} tokens take long to count; {script_command('ngram', '--run')} counts them")
    unit = "characters" if isinstance(trained.tokenizer, CharTokenizer) else "tokens"
    with single_thread():
        ngram = NGram(train, order=ORDER, vocab_size=trained.tokenizer.vocab_size)
        full_context = ngram.loss(val)
        losses = {size: ngram.loss(val, block_size=size) for size in sorted({trained.block_size, *_block_sizes(rows)})}
    bits = _bits_per_char(run)
    return NGramBaseline(
        f"n-gram baseline: the counts of a {ORDER}-gram model, evaluated in the windows of these runs, whose first "
        f"predictions have less context. With {ORDER - 1} {unit} of context everywhere its exact val loss is "
        f"{full_context:.4f} (scripts/ngram.py).",
        tuple(
            NGramLoss(
                f"{ORDER}-gram, windows of {size}",
                f"No network: counts of up to {ORDER} {unit}, {min(size, ORDER - 1)} {unit} of context.",
                size,
                loss,
                loss * bits,
            )
            for size, loss in losses.items()
        ),
    )


def _bits_per_char(run: RunRecord) -> float:
    """Bits per character of a loss of one nat per token on the validation split of a run."""
    loss, bits = run.number("val_loss"), run.number("val_bits_per_char")
    return bits / loss if loss and bits else math.nan


def _data_key(row: Row) -> str | None:
    """The split and the tokenizer of a row; all seeds share them."""
    if not row.ended:
        return None
    config = row.ended[0].config
    return json.dumps([_group(config, "data").get("split"), config.get("tokenizer")])


def _block_sizes(rows: list[Row]) -> set[int]:
    sizes = (_group(row.ended[0].config, "model").get("block_size") for row in rows if row.ended)
    return {size for size in sizes if isinstance(size, int)}


def _group(config: dict[str, Any], name: str) -> dict[str, Any]:
    group = config.get(name)
    return group if isinstance(group, dict) else {}


def _no_baseline(reason: str) -> NGramBaseline:
    return NGramBaseline(f"No n-gram baseline: {reason}.")
