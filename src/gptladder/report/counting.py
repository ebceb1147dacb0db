"""What counting alone comes to on the text of the runs: a line that no net should be proud to stay above."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from gptladder.report.collect import Reading
from gptladder.report.rows import Row
from gptladder.system.errors import UserError

ORDER = 5  # the best on Tiny Shakespeare
MOST = 20_000_000  # tokens: more would take longer to count than all the rest of the report


@dataclass(frozen=True)
class Yardstick:
    """The exact loss of counts on the runs' own splits, or why there is none."""

    note: str
    label: str = ""
    loss: float | None = None


def yardstick(rows: list[Row]) -> Yardstick:
    """Count the text that all finished runs share, as the checkpoint of one of them tells it."""
    runs = [run for row in rows for run in row.finished]
    if len({run.result.get("corpus_sha256") for run in runs}) > 1 or len(set(map(_prepared, rows)) - {None}) > 1:
        return _none("the runs differ in text, split or tokenizer")
    recorded = next((run for run in runs if run.checkpoint.is_file()), None)
    if recorded is None:
        return _none("no finished run has a checkpoint that tells their text")
    try:
        return _counted(recorded, rows)
    except (UserError, LookupError) as error:  # nothing is worth the rest of the report
        return _none(" ".join(str(error).partition(": ")[0].split()))  # without a remedy meant for another command


def _counted(run: Reading, rows: list[Row]) -> Yardstick:
    # Imported here: torch takes longer to load than a report of runs without a checkpoint.
    from gptladder.data.tokenizer import CharTokenizer
    from gptladder.evaluation.ngram import NGram
    from gptladder.runs.checkpoint import load_trained, recorded_tokens
    from gptladder.system.threads import single_thread

    trained = load_trained(run.checkpoint)
    train, val = recorded_tokens(trained)
    if len(train) > MOST:
        return _none(f"{len(train):,} tokens take long to count; scripts/ngram.py --run counts them")
    with single_thread():
        counts = NGram(train, order=ORDER, vocab_size=trained.tokenizer.vocab_size)
        loss = counts.loss(val)
        sizes = sorted({trained.block_size, *_block_sizes(rows)})
        cut = [f"{counts.loss(val, block_size=size):.4f} in blocks of {size}" for size in sizes]
    unit = "characters" if isinstance(trained.tokenizer, CharTokenizer) else "tokens"
    return Yardstick(
        f"Without a network: {ORDER}-gram counts, {ORDER - 1} {unit} before every prediction, have an exact val loss "
        f"of {loss:.4f}; cut as these runs see the text, {', '.join(cut)} (scripts/ngram.py).",
        f"{ORDER}-gram counts, {ORDER - 1} {unit} of context",
        loss,
    )


def _prepared(row: Row) -> str | None:
    """What the text was made into; seeds share it."""
    if not row.finished:
        return None
    config = row.finished[0].config
    return json.dumps([_of(config, "data").get("split"), config.get("tokenizer")])


def _block_sizes(rows: list[Row]) -> set[int]:
    sizes = (_of(row.finished[0].config, "model").get("block_size") for row in rows if row.finished)
    return {size for size in sizes if isinstance(size, int)}


def _of(config: dict[str, Any], group: str) -> dict[str, Any]:
    part = config.get(group)
    return part if isinstance(part, dict) else {}


def _none(reason: str) -> Yardstick:
    return Yardstick(f"Without a network: no counts to compare with ({reason}).")
