"""The columns of the report's table: how each value of a row is written, and what the notes say about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

from gptladder.report.aggregate import Row, has_several_tokenizers, shared_settings
from gptladder.report.ngram_baseline import NGramLoss
from gptladder.report.statistics import PairedDifference
from gptladder.runs.published import SO_FAR

MISSING = "—"
MINUS = "\u2212"


@dataclass(frozen=True)
class Column:
    """A heading and its cells.

    A narrow terminal drops the columns with the highest ``drop_priority`` first, those with 0 never. Cells wrap down to
    ``min_width`` characters, without one to the longest word of a text and not at all in a number.
    """

    heading: str
    text: Callable[[Row], str]
    is_text: bool = False
    min_width: int = 0
    drop_priority: int = 0


def format_mean(key: str, form: str = ".4f", error: Literal["std", "half_width"] | None = None) -> Callable[[Row], str]:
    """``2.0681``, the mean of a value of ``result.json`` over seeds, or ``2.0681 ± 0.0031`` with an error.

    Args:
        key: of ``result.json``.
        form: how numbers are formatted.
        error: the standard deviation, or half the width of the 95 % confidence interval.
    """

    def text(row: Row) -> str:
        value = row.mean(key)
        if value is None:
            return MISSING
        after = None if error is None else getattr(value, error)
        return format(value.mean, form) if after is None else f"{value.mean:{form}} ± {after:{form}}"

    return text


def format_published(row: Row) -> str:
    """The published train and val estimate."""
    return MISSING if row.published is None else "{:.4f} / {:.4f}".format(*row.published)


def format_worst_point(row: Row) -> str:
    """``0.0246 ≤ 0.0781``: the difference from the published curve at the worst point, and the tolerance there."""
    point = row.worst_point
    if point is None:
        return MISSING
    if not {"worst_abs_diff", "tolerance"} <= point.keys():  # recorded by version 0.1
        return f"{point['max_abs_diff']:.4f}"
    sign = ">" if point.get("verdict") == "DRIFT" else "≤"
    return f"{point['worst_abs_diff']:.4f} {sign} {point['tolerance']:.4f}"


def format_difference(difference: PairedDifference | None) -> str:
    """``+0.0921 ± 0.0112 (p=0.003, n=10)``, with half the 95 % confidence interval, or ``+0.0921 one seed``."""
    if difference is None:
        return MISSING
    mean = f"{difference.mean:+.4f}".replace("-", MINUS)
    if difference.half_width is None:
        return f"{mean} one seed"
    noise = " within noise" if difference.within_noise else ""
    return f"{mean} ± {difference.half_width:.4f}{noise} (p{format_p(difference.p_corrected)}, n={difference.n})"


def format_p(p: float | None) -> str:
    """``=0.012``, or ``<0.001``."""
    return "=—" if p is None else "<0.001" if p < 0.001 else f"={p:.3f}"


def explain_verdict(row: Row) -> str:
    """What a DRIFT is, and up to which step a shortened run was compared; empty where nothing needs to be said."""
    point = row.worst_point
    stopped = [f"Stopped at step {run.step:,}: {run.stopped_by}." for run in row.ended if run.stopped_by]
    if point is None or not row.verdicts & {"DRIFT", SO_FAR}:
        return " ".join(dict.fromkeys(stopped))
    if "DRIFT" in row.verdicts:
        where = f"step {point.get('worst_step', point.get('step', 0)):,}"
        split = f"the {point['worst_split']} estimate" if point.get("worst_split") else "an estimate"
        difference = point.get("worst_abs_diff", point["max_abs_diff"])
        allowed = f"{point['tolerance']:.4f}" if "tolerance" in point else "less"
        return (
            f"At {where}, {split} differs from the published one by {difference:.4f}; rounding explains "
            f"{allowed}. The code, a setting or the text differs."
        )
    length = f" of {point['last_step']:,}" if point.get("last_step") else ""
    return " ".join(dict.fromkeys([*stopped, f"Compared up to step {point['step']:,}{length}, where the run ends."]))


COLUMNS = (
    Column("rung", lambda row: row.label, is_text=True, min_width=12),
    Column("what changed", lambda row: row.what_changed or MISSING, is_text=True, min_width=28, drop_priority=2),
    Column("parameters", format_mean("params", ",.0f"), drop_priority=5),
    Column("seeds", lambda row: str(len(row.representative)), drop_priority=5),
    Column("steps", format_mean("step", ",.0f"), drop_priority=6),
    Column("tokens", format_mean("tokens", ",.0f"), drop_priority=9),
    Column("train estimate", format_mean("train_estimate", error="std"), drop_priority=4),
    Column("val estimate", format_mean("val_estimate", error="std")),
    Column("published (train / val)", format_published, drop_priority=3),
    Column("largest difference", format_worst_point, drop_priority=3),
    Column("verdict", lambda row: row.status, is_text=True),
    Column("exact val loss", format_mean("val_loss", error="half_width")),
    Column("bits/char", format_mean("val_bits_per_char", error="half_width"), drop_priority=8),
    # as wide as "+0.0921 ± 0.0112 within", the first line in a narrow terminal
    Column("vs. previous rung", lambda row: format_difference(row.difference), min_width=23, drop_priority=1),
    Column("seconds", format_mean("wall_seconds", ",.1f"), drop_priority=7),
    Column("tokens/s", format_mean("tokens_per_second", ",.0f"), drop_priority=8),
)


def table_columns(rows: Iterable[Row]) -> tuple[Column, ...]:
    """The columns of a table; a narrow terminal shows the losses per token last where tokenizers differ."""
    if not has_several_tokenizers(rows):
        return COLUMNS
    priorities = {"bits/char": 0, "val estimate": 8, "exact val loss": 8}
    return tuple(replace(c, drop_priority=priorities.get(c.heading, c.drop_priority)) for c in COLUMNS)


def baseline_cell(column: Column, baseline: NGramLoss) -> str:
    """The cell of an n-gram model, which is the last row of a table."""
    cells = {
        "rung": baseline.label,
        "what changed": baseline.description,
        "exact val loss": f"{baseline.loss:.4f}",
        "bits/char": f"{baseline.bits_per_char:.4f}",
    }
    return cells.get(column.heading, MISSING)


def _explain_verdicts(rows: list[Row]) -> list[str]:
    """A sentence for each DRIFT, and for each length of shortened runs."""
    sentences: dict[str, list[str]] = {}
    for row in rows:
        if sentence := explain_verdict(row):
            sentences.setdefault(sentence, []).append(row.label)
    return [f"{', '.join(labels)}: {sentence}" for sentence, labels in sentences.items()]


def table_notes(rows: list[Row]) -> list[str]:
    """What a reader must know about the numbers of a table."""
    shared = shared_settings(rows)
    has_seeds = any(len(row.representative) > 1 for row in rows)
    n_tests = sum(row.difference is not None and row.difference.p_corrected is not None for row in rows)
    notes = {
        f"All runs: {' '.join(shared)}": bool(shared),
        "The tokenizers differ: compare bits/char. A loss is per token, and tokens of different tokenizers are not "
        "equally long.": has_several_tokenizers(rows),
        "Estimates: mean ± standard deviation over seeds. Exact val loss and bits/char: mean ± half the 95 % "
        "confidence interval (Student's t).": has_seeds,
        "MATCH: no estimate differs from the published one by more than half of its last digit and what rounding "
        "explains at that step. Largest difference ≤ what rounding explains there.": any(
            row.worst_point for row in rows
        ),
        **dict.fromkeys(_explain_verdicts(rows), True),
        '"vs. previous rung": the difference of the exact val loss, paired by seed, ± half the 95 % confidence '
        "interval (Student's t); within noise: the interval contains zero.": n_tests > 0,
        f"p-values are corrected for {n_tests} comparisons (Holm).": n_tests > 1,
    }
    return [note for note, applies in notes.items() if applies]
