"""The n-gram baseline of the report: the loss that counting reaches on the text of the runs, without a network."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gptladder.report.aggregate import Row
from gptladder.report.load_runs import RunRecord
from gptladder.system.errors import UserError

ORDER = 5  # the best order on Tiny Shakespeare
MAX_TOKENS = 20_000_000  # more would take longer to count than the rest of the report


@dataclass(frozen=True)
class NGramBaseline:
    """The exact loss of an n-gram model on the splits of the runs, or a note that says why there is none."""

    note: str
    label: str = ""
    loss: float | None = None


def compute_ngram_baseline(rows: list[Row]) -> NGramBaseline:
    """Count the text that all finished runs share; the checkpoint of one of them says which text that is."""
    runs = [run for row in rows for run in row.finished]
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
        return _no_baseline(f"{len(train):,} tokens take long to count; scripts/ngram.py --run counts them")
    with single_thread():
        ngram = NGram(train, order=ORDER, vocab_size=trained.tokenizer.vocab_size)
        loss = ngram.loss(val)
        sizes = sorted({trained.block_size, *_block_sizes(rows)})
        in_blocks = [f"{ngram.loss(val, block_size=size):.4f} in blocks of {size}" for size in sizes]
    unit = "characters" if isinstance(trained.tokenizer, CharTokenizer) else "tokens"
    return NGramBaseline(
        f"n-gram baseline: a {ORDER}-gram model ({ORDER - 1} {unit} of context) has an exact val loss of {loss:.4f}; "
        f"limited to the blocks of these runs, {', '.join(in_blocks)} (scripts/ngram.py).",
        f"{ORDER}-gram model, {ORDER - 1} {unit} of context",
        loss,
    )


def _data_key(row: Row) -> str | None:
    """The split and the tokenizer of a row; all seeds share them."""
    if not row.finished:
        return None
    config = row.finished[0].config
    return json.dumps([_group(config, "data").get("split"), config.get("tokenizer")])


def _block_sizes(rows: list[Row]) -> set[int]:
    sizes = (_group(row.finished[0].config, "model").get("block_size") for row in rows if row.finished)
    return {size for size in sizes if isinstance(size, int)}


def _group(config: dict[str, Any], name: str) -> dict[str, Any]:
    group = config.get(name)
    return group if isinstance(group, dict) else {}


def _no_baseline(reason: str) -> NGramBaseline:
    return NGramBaseline(f"No n-gram baseline: {reason}.")
